"""The parts that a test lets run: services, PostgreSQL, S3, the Hub."""
