"""Frames on their way in and out, and what is counted about them; pure."""
