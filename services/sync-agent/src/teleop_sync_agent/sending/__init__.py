"""What is on the disk goes to the server."""
