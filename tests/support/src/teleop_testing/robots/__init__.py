"""What a robot does, and what is left of it on its disk."""
