"""What was recorded of a session, and which of it is fit to be exported; pure."""
