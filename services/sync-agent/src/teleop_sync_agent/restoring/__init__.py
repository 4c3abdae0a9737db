"""What the server holds comes back, is checked, and is removed here once it is safe there."""
