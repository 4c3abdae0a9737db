"""The one place that adds to `erasure`: what is in it is erased, and never taken again."""

from datetime import datetime
from uuid import UUID

from teleop_runtime.postgres.erasing import key_of, lock_erased
from teleop_runtime.postgres.pool import Connection

SESSION_SHARES = ("export-service", "video-ingest-service", "telemetry-service")
DATASET_SHARES = ("video-ingest-service",)

# Its writer is fenced, and it is in no list any more.
CLOSE_SESSION = """
UPDATE teleop_session SET epoch = epoch + 1, deleted_at = coalesce(deleted_at, now()) WHERE stream_id = $1
"""
ADD = """
INSERT INTO erasure (session_id, stream_id, robot_id, dataset, asked_by, asked_at)
VALUES ($1, $2, $3, $4, $5, coalesce($6, now()))
ON CONFLICT DO NOTHING RETURNING id
"""
ADD_SHARES = "INSERT INTO erasure_share (erasure_id, service) SELECT $1, unnest($2::text[])"


async def add_erasure(
    connection: Connection,
    session_id: int | None,
    stream_id: UUID | None,
    robot_id: str,
    dataset: str | None,
    asked_by: str,
    asked_at: datetime | None,
) -> bool:
    """Add an erasure with its shares, in the caller's transaction; False if there is one.

    asked_at  None: now
    """
    await lock_erased(connection, key_of(stream_id, robot_id, dataset))
    erasure_id = await connection.fetchval(ADD, session_id, stream_id, robot_id, dataset, asked_by, asked_at)
    if erasure_id is None:
        return False
    await connection.execute(CLOSE_SESSION, stream_id)
    shares = SESSION_SHARES if dataset is None else DATASET_SHARES
    await connection.execute(ADD_SHARES, erasure_id, list(shares))
    return True
