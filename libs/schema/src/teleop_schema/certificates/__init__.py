"""Certificates of the backend, and how robots know them."""
