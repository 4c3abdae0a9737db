"""The WebSocket: both modes, and how samples get into the database."""
