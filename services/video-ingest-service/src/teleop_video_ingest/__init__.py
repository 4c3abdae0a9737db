"""Receives video chunks and dataset files over resumable HTTP, stores them, and serves them."""
