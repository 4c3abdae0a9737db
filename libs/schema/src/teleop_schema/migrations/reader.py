"""The role `reader`: for people and their tools, which read the database and change nothing in it."""

from typing import LiteralString

import psycopg
from psycopg import sql

READER: LiteralString = "reader"
# docs/tables.md describes them, column by column.
READABLE = (
    "robot",
    "session_overview",
    "teleop_session",
    "teleop_frame",
    "teleop_frame_data",
    "session_column",
    "episode_overview",
    "episode",
    "episode_change",
    "every_episode",
    "session_change",
    "outcome_reason",
    "episode_look",
    "episode_flag",
    "flag_threshold",
    "episode_pause",
    "session_mark",
    "frame_gap",
    "refused_frames",
    "video_chunk",
    "video_chunk_use",
    "dataset",
    "dataset_version",
    "dataset_import",
    "export",
    "session_export",
)
# A notebook that leaks connections must leave the services theirs.
MOST_CONNECTIONS = 10
# A long statement, or a transaction that somebody left open, holds up migrations and all that waits behind
# them. Who wants more time for a statement says so. One statement keeps one core busy, and its sorting does
# not fill the disk that samples are written to.
SETTINGS = {
    "statement_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "max_parallel_workers_per_gather": "0",
    "temp_file_limit": "2GB",
}
# Whatever its rights, any role may write large objects, and temporary tables.
NOTHING_TO_FILL: LiteralString = """
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC
"""
# They make and drop tables with the rights of their owner.
FOR_SERVICES: LiteralString = (
    "REVOKE EXECUTE ON FUNCTION ensure_frame_partition, drop_frame_partition FROM PUBLIC"
)
SESSION_VIEWS: LiteralString = r"""
SELECT relname FROM pg_class
 WHERE relkind = 'v' AND relname ~ '^session_\d+$' AND relnamespace = current_schema::regnamespace
"""


def make_reader(connection: psycopg.Connection) -> None:
    """Have the role with its limits, which takes a superuser; it may come into this database."""
    role = sql.Identifier(READER)
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (READER,)).rowcount:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    connection.execute(
        sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, sql.Literal(MOST_CONNECTIONS))
    )
    for name, value in SETTINGS.items():
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(name), sql.Literal(value))
        )
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
    connection.execute(NOTHING_TO_FILL)


def let_reader_read(connection: psycopg.Connection) -> None:
    """Let the role read what is meant for reading, after each migration, as the owner of the tables."""
    role = sql.Identifier(READER)
    views = [name for (name,) in connection.execute(SESSION_VIEWS).fetchall()]
    tables = sql.SQL(", ").join(map(sql.Identifier, (*READABLE, *views)))
    connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(tables, role))
    connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION make_session_view TO {}").format(role))
    connection.execute(FOR_SERVICES)
