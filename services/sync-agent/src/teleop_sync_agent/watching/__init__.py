"""Watches the disk: folders and datasets."""
