"""Uploads: resumable, in parts, with their progress."""
