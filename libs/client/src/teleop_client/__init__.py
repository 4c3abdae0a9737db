"""Code that all clients of the backend share: requests, uploads, retries."""
