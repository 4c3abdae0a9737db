"""Backed-up datasets become sessions: frames, episodes and columns, and which picture each frame has."""
