"""Code that all commands share: how they start, refuse wrong usage, and report mistyped variables."""
