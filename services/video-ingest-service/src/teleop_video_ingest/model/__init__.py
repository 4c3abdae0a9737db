"""Uploads, video and versions of datasets as data; pure."""
