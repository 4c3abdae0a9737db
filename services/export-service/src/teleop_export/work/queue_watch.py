"""Tells how many exports wait, run, and have failed lately, whichever process worked on them."""

from teleop_export.metrics import (
    EXPORTS_FAILED,
    EXPORTS_RUNNING,
    EXPORTS_WAITING,
    OLDEST_WAITING,
    PUSHES_FAILED,
)
from teleop_export.tables.database import PsycopgPool, connect

# As often as metrics are fetched.
LOOK_EVERY_S = 15.0

EXPORTS = """
SELECT count(*) FILTER (WHERE status = 'queued') AS waiting,
       count(*) FILTER (WHERE status = 'running') AS running,
       count(*) FILTER (WHERE status = 'failed' AND finished_at > now() - interval '1 hour') AS failed,
       coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE status = 'queued')), 0)::float8
           AS oldest_s,
       (SELECT count(*) FROM export_push
         WHERE status = 'failed' AND finished_at > now() - interval '1 hour') AS pushes_failed
  FROM export
"""


async def look(pool: PsycopgPool) -> None:
    """Set every gauge to what the database says now."""
    async with connect(pool) as connection:
        row = await (await connection.execute(EXPORTS)).fetchone()
    assert row is not None  # noqa: S101
    EXPORTS_WAITING.set(row["waiting"])
    EXPORTS_RUNNING.set(row["running"])
    EXPORTS_FAILED.set(row["failed"])
    OLDEST_WAITING.set(row["oldest_s"])
    PUSHES_FAILED.set(row["pushes_failed"])
