"""The addresses of a server, described: as an OpenAPI document, and as a page to read."""
