"""Takes joint telemetry over WebSocket into PostgreSQL without loss, and reads it back."""
