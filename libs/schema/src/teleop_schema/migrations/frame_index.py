"""The index on the time of frames, for partitions that an older release made.

New partitions have it from the start. Making it for a large one takes minutes, in which a migration would
keep everybody from writing. So it is made after the migrations, without a lock that a writer meets.
"""

import time
from typing import LiteralString

import psycopg
from psycopg import sql

from teleop_schema.connections import PREPARE

# Beside MIGRATION_LOCK, which a transaction holds: these indexes are made outside of any.
INDEX_LOCK = 0x7E1E0C
# Asked for again and again: what makes the index waits for everyone who waits for a lock within a statement.
LOCK_EVERY_S = 0.2

UNINDEXED: LiteralString = """
SELECT partition.relname
  FROM pg_inherits JOIN pg_class partition ON partition.oid = inhrelid
 WHERE inhparent = 'teleop_frame'::regclass
   AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                                          JOIN pg_am ON pg_am.oid = i.relam
                    WHERE x.indrelid = partition.oid AND x.indisvalid AND amname = 'brin')
 ORDER BY partition.oid DESC
"""
MAKE: LiteralString = """
CREATE INDEX CONCURRENTLY {} ON {} USING brin ("timestamp") WITH (pages_per_range = 64, autosummarize = on)
"""


def index_frames(database_url: str) -> None:
    """Return once all frames can be found by their time; the newest partitions come first."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(PREPARE)
        while connection.execute("SELECT pg_try_advisory_lock(%s)", (INDEX_LOCK,)).fetchone() != (True,):
            time.sleep(LOCK_EVERY_S)
        for (partition,) in connection.execute(UNINDEXED).fetchall():
            index = sql.Identifier(f"{partition}_time")
            # What an earlier attempt left behind that was killed.
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index))
            try:
                connection.execute(sql.SQL(MAKE).format(index, sql.Identifier(partition)))
            except psycopg.errors.UndefinedTable:
                # Its frames have moved to the archive meanwhile.
                continue
