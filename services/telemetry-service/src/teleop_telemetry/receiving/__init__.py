"""The WebSocket: both modes, and the way of frames into the database."""
