"""What the agent remembers, and what it may remove."""
