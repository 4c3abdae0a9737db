"""Background work: the sweep, later checks of video, free space."""
