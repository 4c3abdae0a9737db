"""Rows of `video_chunk` that must be checked. Every function works on its caller's connection."""

from typing import NamedTuple

from teleop_runtime.postgres.pool import Connection

from teleop_video_ingest.model.worker_messages import LOOK_VERSION, Probed

# A damaged or missing file can't be checked until it has arrived again. Those that took too long come last.
# Other replicas may take rows too; if one dies, its rows are due again later.
TAKE_DUE = """
UPDATE video_chunk v
   SET failed_looks = failed_looks + 1,
       look_after = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(failed_looks, 10))
  FROM teleop_session s
 WHERE s.id = v.session_id
   AND v.id IN (SELECT c.id FROM video_chunk c JOIN stored_object o ON o.sha256 = c.sha256
                 WHERE look_after <= now() AND o.damage IS NULL ORDER BY failed_looks, look_after LIMIT $1
                   FOR UPDATE OF c SKIP LOCKED)
RETURNING v.id, file_path, sha256, size_bytes, cardinality(frame_indices) AS told,
          depth_unit IS NOT NULL AS depth,
          (extract(epoch FROM end_timestamp - start_timestamp) * 1000000)::bigint AS span_us,
          s.robot_id, failed_looks > 1 AS slow
"""

# Makes them due like unchecked chunks; their old results count until then.
MAKE_DUE = """
UPDATE video_chunk SET failed_looks = 0, look_after = now()
 WHERE id IN (SELECT c.id FROM video_chunk c JOIN stored_object o ON o.sha256 = c.sha256
               WHERE look_version < $1 AND look_after IS NULL AND o.damage IS NULL
               ORDER BY look_version, c.id DESC LIMIT $2
                 FOR UPDATE OF c SKIP LOCKED)
"""

# The result of the check; without one, the sender's values stay.
NOTE_LOOK = """
WITH known AS (SELECT id, frame_count, quarantine, look_version FROM video_chunk
                WHERE id = $1 AND look_after IS NOT NULL FOR UPDATE)
UPDATE video_chunk c
   SET frame_count = coalesce($2, c.frame_count), fps = coalesce($3, fps), codec = $4, pix_fmt = $5,
       width = coalesce($6, width), height = coalesce($7, height), keyframes = $8, quarantine = $9,
       look_after = NULL, look_version = $10,
       corrected_at = CASE WHEN known.look_version > 0 AND (known.quarantine IS NULL OR $9::text IS NULL)
                                AND (known.frame_count IS DISTINCT FROM coalesce($2, c.frame_count)
                                     OR (known.quarantine IS NULL) <> ($9::text IS NULL))
                           THEN now() ELSE corrected_at END
  FROM known WHERE c.id = known.id
RETURNING known.look_version, known.frame_count, known.quarantine, c.frame_count,
          c.corrected_at IS NOT DISTINCT FROM now()
"""

# No check is completed in the time of a first one.
NOTE_SLOW = "UPDATE video_chunk SET failed_looks = 1 WHERE id = $1 AND failed_looks = 0"

# (never completely checked, checked by an older version)
COUNT_UNLOOKED = """
SELECT (SELECT count(*) FROM video_chunk c JOIN stored_object o ON o.sha256 = c.sha256
         WHERE look_after IS NOT NULL AND look_version = 0 AND o.damage IS NULL),
       (SELECT count(*) FROM video_chunk WHERE look_version BETWEEN 1 AND $1 - 1)
"""

OFTEN_UNLOOKED = """
SELECT count(*) OVER (), file_path, quarantine
  FROM video_chunk c JOIN stored_object o ON o.sha256 = c.sha256
 WHERE look_after IS NOT NULL AND look_version = 0 AND failed_looks >= $1 AND o.damage IS NULL
 ORDER BY c.id LIMIT 1
"""


class Due(NamedTuple):
    """A chunk that must be checked.

    told     number of pictures according to its sender; None: it did not say
    depth    whether they are depth
    span_us  from its start to its end
    slow     it has been checked in vain before
    """

    id: int
    path: str
    sha256: str
    size_bytes: int
    told: int | None
    depth: bool
    span_us: int
    robot_id: str
    slow: bool


class LookResult(NamedTuple):
    """What was known about a chunk before a check, and what the check has changed.

    version     version of the check before; 0: none was completed
    had, has    number of pictures before and after
    quarantine  the value before
    corrected   whether an export of it would have had other pictures
    """

    version: int
    had: int | None
    quarantine: str | None
    has: int | None
    corrected: bool


class OftenUnlooked(NamedTuple):
    """How many chunks can't be checked; path and reason are those of the oldest."""

    chunks: int
    path: str
    reason: str


async def make_due(connection: Connection, limit: int) -> None:
    """Make up to `limit` chunks due that an older version has checked, newest first."""
    await connection.execute(MAKE_DUE, LOOK_VERSION, limit)


async def take_due(connection: Connection, limit: int) -> list[Due]:
    """Up to `limit` chunks to check now; each becomes due again unless `note_look` is called."""
    return [Due(*row) for row in await connection.fetch(TAKE_DUE, limit)]


async def note_look(connection: Connection, chunk_id: int, probed: Probed) -> LookResult | None:
    """Store the result of a check; None if another replica has stored its own meanwhile."""
    row = await connection.fetchrow(
        NOTE_LOOK,
        chunk_id,
        probed.frames,
        probed.fps,
        probed.codec,
        probed.pix_fmt,
        probed.width,
        probed.height,
        probed.keyframes,
        probed.problem,
        LOOK_VERSION,
    )
    return None if row is None else LookResult(*row)


async def note_slow(connection: Connection, chunk_id: int) -> None:
    """Let the next check take longer."""
    await connection.execute(NOTE_SLOW, chunk_id)


async def count_unlooked(connection: Connection) -> tuple[int, int]:
    """How many chunks could not be checked yet, and how many must be checked again."""
    row = await connection.fetchrow(COUNT_UNLOOKED, LOOK_VERSION)
    assert row is not None  # noqa: S101
    return row[0], row[1]


async def often_unlooked(connection: Connection, failed_looks: int) -> OftenUnlooked | None:
    """Chunks that this many checks could not complete; None if there are none."""
    row = await connection.fetchrow(OFTEN_UNLOOKED, failed_looks)
    return None if row is None else OftenUnlooked(*row)
