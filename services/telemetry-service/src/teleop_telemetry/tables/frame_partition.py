"""The partitions of `teleop_frame`."""

import asyncpg
from teleop_runtime.postgres.pool import Connection
from teleop_schema.errors import StorageUnavailable


async def ensure_partition(connection: Connection, session_id: int) -> None:
    """Create the partition for the session's frames if needed; raises StorageUnavailable with the reason."""
    try:
        await connection.execute("SELECT ensure_frame_partition($1)", session_id)
    except asyncpg.ObjectNotInPrerequisiteStateError as error:
        raise StorageUnavailable(f"frames can't be stored: {error.message}", hint=error.hint) from error
