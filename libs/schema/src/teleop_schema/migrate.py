"""Bring a database to the newest schema: `DATABASE_URL=postgresql://… python -m teleop_schema.migrate`."""

import argparse
import os
import sys
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config

# Any number of starting services may call this at once: one migrates, the others wait and find it done.
MIGRATION_LOCK = 0x7E1E0B


def migrate(database_url: str) -> None:
    """Apply every migration that the database at `postgresql://…` lacks."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m teleop_schema.migrate", description=__doc__).parse_args()
    if "DATABASE_URL" not in os.environ:
        sys.exit("DATABASE_URL is not set; example: DATABASE_URL=postgresql://user:password@host:5432/teleop")
    migrate(os.environ["DATABASE_URL"])
