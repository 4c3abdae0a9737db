"""What uploads, video and versions of datasets are, and the words for them; pure."""
