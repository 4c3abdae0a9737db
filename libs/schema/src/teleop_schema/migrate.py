"""Bring a database to the newest schema: `DATABASE_URL=postgresql://… python -m teleop_schema.migrate`."""

import os
import sys
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config

from teleop_schema.commands.command_line import Parser
from teleop_schema.connections import PREPARE
from teleop_schema.migrations.frame_index import index_frames

# Any number of starting services may call this at once; one migrates, the others wait and find it done.
MIGRATION_LOCK = 0x7E1E0B


class UnfitDatabase(Exception):
    """The database can't hold the schema; the message says why, and what to do."""


def migrate(database_url: str) -> None:
    """Apply every migration that the database at `postgresql://…` lacks; raises UnfitDatabase."""
    _check_encoding(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(PREPARE)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    index_frames(database_url)


def _check_encoding(database_url: str) -> None:
    # Not asked through SQLAlchemy, which can't read the answers of a
    # database without an encoding (SQL_ASCII).
    with psycopg.connect(database_url) as connection:
        encoding, name = connection.info.parameter_status("server_encoding"), connection.info.dbname
    if encoding != "UTF8":
        raise UnfitDatabase(
            f"the database {name} has the encoding {encoding}, but must have UTF8: "
            f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        )


if __name__ == "__main__":
    Parser(prog="python -m teleop_schema.migrate", description=__doc__).parse_args()
    if "DATABASE_URL" not in os.environ:
        sys.exit("DATABASE_URL is not set; example: DATABASE_URL=postgresql://user:password@host:5432/teleop")
    try:
        migrate(os.environ["DATABASE_URL"])
    except UnfitDatabase as error:
        sys.exit(str(error))
