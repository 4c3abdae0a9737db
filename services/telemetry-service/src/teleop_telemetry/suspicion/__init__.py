"""What is suspicious about episodes: flags, each with the moment, the measured value and its threshold."""
