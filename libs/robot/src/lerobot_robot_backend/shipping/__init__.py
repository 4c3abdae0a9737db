"""Sends the contents of the spool to the server."""
