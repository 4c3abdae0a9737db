"""PostgreSQL for every service."""
