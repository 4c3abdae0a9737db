"""What all commands have in common: how they begin, refuse, and tell of mistyped variables."""
