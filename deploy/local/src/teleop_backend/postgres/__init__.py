"""A real PostgreSQL of this backend's own: its server, the programs it runs, and the account it runs as."""

from teleop_backend.postgres.process import DATABASE, RunningServer
from teleop_backend.postgres.programs import PostgresFailed
from teleop_backend.postgres.server import SUPERUSER, EmbeddedPostgres, running

__all__ = ["DATABASE", "SUPERUSER", "EmbeddedPostgres", "PostgresFailed", "RunningServer", "running"]
