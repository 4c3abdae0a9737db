"""Sends what is on disk to the server."""
