"""Erasing sessions, and backups of datasets, for good: who asked for it, and how far it is."""
