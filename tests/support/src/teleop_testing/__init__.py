"""Fixtures of the tests: a real PostgreSQL, services as processes, a network that fails on command."""
