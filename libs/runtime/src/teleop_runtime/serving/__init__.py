"""The HTTP and WebSocket side of every service."""
