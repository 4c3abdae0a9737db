"""What the HTTP and WebSocket side of every service is made of."""
