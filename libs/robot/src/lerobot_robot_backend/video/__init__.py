"""Pictures on their way into segments of video."""
