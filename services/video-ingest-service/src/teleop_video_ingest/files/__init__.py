"""Stored files: their names, checks of video, verification, and notes in the store."""
