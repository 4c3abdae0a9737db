"""Restores the server's copy, compares it, and deletes datasets here once they are safe there."""
