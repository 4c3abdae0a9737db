"""Turns pictures into segments of video."""
