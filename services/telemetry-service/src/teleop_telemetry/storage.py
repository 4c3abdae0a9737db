"""Reports how much the database contains, and which robots have gone silent."""

from teleop_runtime.postgres.pool import Pool, connected

from teleop_telemetry import metrics
from teleop_telemetry.tables.lost_copies import lost_sessions

# As often as Prometheus fetches metrics.
LOOK_EVERY_S = 15.0
# Time limit for reading sizes and open sessions, for which a busy database takes seconds.
LOOK_TIMEOUT_S = 10.0
# Partitions with their own gauge; older ones are only in the sum.
TOLD_PARTITIONS = 50

PARTITIONS = """
SELECT substring(c.relname FROM '[0-9]+$')::bigint AS part, greatest(c.reltuples, 0)::bigint AS rows,
       pg_total_relation_size(c.oid) AS size_bytes
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'teleop_frame'::regclass ORDER BY part DESC
"""

# After a day, people no longer expect a silent robot.
SESSIONS = """
SELECT count(*) FILTER (WHERE heard_at >= now() - interval '1 min') AS recording,
       count(*) FILTER (WHERE heard_at < now() - interval '1 min'
                          AND heard_at >= now() - interval '1 day') AS silent,
       pg_database_size(current_database()) AS database_bytes
  FROM (SELECT coalesce(last_commit_at, start_time) AS heard_at
          FROM teleop_session WHERE status = 'recording' AND deleted_at IS NULL) s
"""


async def look(pool: Pool) -> None:
    """Set every gauge from the database; raises the errors of the database and of the connection."""
    try:
        await _look(pool)
    except Exception:
        metrics.DATABASE_UP.set(0)
        raise
    metrics.DATABASE_UP.set(1)


async def _look(pool: Pool) -> None:
    async with connected(pool, timeout_s=LOOK_TIMEOUT_S) as connection:
        partitions = await connection.fetch(PARTITIONS)
        sessions = await connection.fetchrow(SESSIONS)
        lost = await lost_sessions(connection)
    assert sessions is not None  # noqa: S101
    metrics.SESSIONS_RECORDING.set(sessions["recording"])
    metrics.SESSIONS_SILENT.set(sessions["silent"])
    metrics.SESSIONS_LOST.set(len(lost))
    metrics.DATABASE_BYTES.set(sessions["database_bytes"])
    metrics.FRAME_PARTITIONS.set(len(partitions))
    metrics.FRAME_BYTES.set(sum(row["size_bytes"] for row in partitions))
    metrics.FRAME_ROWS.set(sum(row["rows"] for row in partitions))
    metrics.PARTITION_BYTES.clear()
    metrics.PARTITION_ROWS.clear()
    for row in partitions[:TOLD_PARTITIONS]:
        metrics.PARTITION_BYTES.labels(row["part"]).set(row["size_bytes"])
        metrics.PARTITION_ROWS.labels(row["part"]).set(row["rows"])
