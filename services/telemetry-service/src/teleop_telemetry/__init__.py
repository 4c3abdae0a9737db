"""Stores joint telemetry from WebSocket in PostgreSQL without loss, and serves it."""
