"""Processes for work on files that nobody vouches for: little memory, no network, no other file."""
