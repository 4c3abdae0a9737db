"""Rows of `dataset_version` that are states of recordings. On the caller's connection."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from teleop_runtime.postgres.pool import Connection

UNJUDGED = """
SELECT dataset_id FROM dataset_version WHERE source = 'robot' AND NOT finalised
 GROUP BY dataset_id HAVING count(*) > $1 AND bool_or(recording_begun IS NULL)
"""

UNFINALISED = """
SELECT id, version, created_at, recording_begun, total_episodes, total_frames
  FROM dataset_version WHERE dataset_id = $1 AND source = 'robot' AND NOT finalised
 ORDER BY created_at, version
"""

WITH_ROWS = """
SELECT DISTINCT version_id FROM dataset_version_file
 WHERE version_id = ANY($1) AND path LIKE 'data/%.parquet'
"""

# Descriptions of episodes are written again as a whole, from rows that are compared.
DIFFERENCES = """
SELECT old.version_id, old.path, old.sha256, old.size_bytes, new.sha256, new.size_bytes
  FROM dataset_version_file old
  LEFT JOIN dataset_version_file new ON new.version_id = $2 AND new.path = old.path
 WHERE old.version_id = ANY($1)
   AND (new.path IS NULL
        OR new.sha256 <> old.sha256 AND (old.path LIKE 'data/%.parquet' OR old.path LIKE 'videos/%.mp4'))
"""

SET_RECORDING = "UPDATE dataset_version SET recording_begun = $2 WHERE id = ANY($1)"


class RecordingState(NamedTuple):
    """An unfinalised version.

    begun  when the first version of its recording was made; None: not known yet
    """

    id: int
    version: int
    created_at: datetime
    begun: datetime | None
    episodes: int
    frames: int


class Difference(NamedTuple):
    """A file of a state that another state lacks, or whose rows or pictures differ there.

    new_sha256, new_size_bytes  the other state's file at that path; None: none
    """

    state_id: int
    path: str
    sha256: str
    size_bytes: int
    new_sha256: str | None
    new_size_bytes: int | None


async def unjudged_datasets(connection: Connection, more_than: int) -> list[int]:
    """Datasets with more than this many unfinalised versions, some of which have no known recording."""
    return [row[0] for row in await connection.fetch(UNJUDGED, more_than)]


async def unfinalised(connection: Connection, dataset_id: int) -> list[RecordingState]:
    """A dataset's unfinalised versions, the oldest first."""
    return [RecordingState(*row) for row in await connection.fetch(UNFINALISED, dataset_id)]


async def with_rows(connection: Connection, states: Sequence[int]) -> set[int]:
    """The states that have rows of episodes."""
    return {row[0] for row in await connection.fetch(WITH_ROWS, states)}


async def differences(connection: Connection, states: Sequence[int], new: int) -> list[Difference]:
    """The differences between the states and the state `new`."""
    return [Difference(*row) for row in await connection.fetch(DIFFERENCES, states, new)]


async def set_recording(connection: Connection, states: Sequence[int], begun: datetime) -> None:
    """Store to which recording they belong."""
    await connection.execute(SET_RECORDING, states, begun)
