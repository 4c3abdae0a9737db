"""What every request passes before its endpoint, and every answer after it: ASGI middleware."""
