"""Files on their way in: resumable, in parts, and how far they got."""
