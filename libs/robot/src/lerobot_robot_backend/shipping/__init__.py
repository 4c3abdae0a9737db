"""What the spool holds goes to the server."""
