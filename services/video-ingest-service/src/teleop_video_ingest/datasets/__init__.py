"""Versions of backed-up datasets, and their repair."""
