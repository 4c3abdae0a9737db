"""Rows of `upload`: open uploads, and their files."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import asyncpg
import msgspec
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.serving.problems import Problem, read_noted
from teleop_runtime.store import Recipe
from teleop_schema.files import DatasetFile, VideoFile

from teleop_video_ingest.model.announced import LIMITS, Announced

# Time limit for one row by its key.
TIMEOUT_S = 10.0
# How many expired uploads are handled in one go.
SWEEP_ROWS = 100

# Of two requests with the same plan one adds the upload; both then find the same one.
ADD = """
INSERT INTO upload (id, file, metadata, length, plan_key, base, copied, chunks, expires_at)
VALUES ($1, $2::jsonb, $3, $4, $5, $6, $7::jsonb, $8, now() + make_interval(secs => $9))
ON CONFLICT (plan_key) WHERE finished_at IS NULL AND problem IS NULL DO NOTHING
"""

# A file that comes in one request has no row before it is whole, because nobody can resume it.
FIND = """
SELECT id, file::text, metadata, length, plan_key, base, copied::text, chunks, problem::text, finished_at,
       expires_at
  FROM upload WHERE id = $1 AND file IS NOT NULL
"""

FIND_PLANNED = """
SELECT id, file::text, metadata, length, plan_key, base, copied::text, chunks, problem::text, finished_at,
       expires_at
  FROM upload WHERE plan_key = $1 AND finished_at IS NULL AND problem IS NULL
"""

IS_KNOWN = "SELECT EXISTS (SELECT FROM upload WHERE id = $1)"

HAS_FAILED = "SELECT EXISTS (SELECT FROM upload WHERE plan_key = $1 AND problem IS NOT NULL)"

ROBOT_OF = "SELECT file->>'robot_id' FROM upload WHERE id = $1 AND file IS NOT NULL"

# Only once: two requests may tell different lengths.
SET_LENGTH = "UPDATE upload SET length = $2 WHERE id = $1 AND length IS NULL"

POSTPONE = (
    "UPDATE upload SET expires_at = now() + make_interval(secs => $2) WHERE id = $1 RETURNING expires_at"
)

FINISH = """
UPDATE upload SET finished_at = now(), expires_at = now() + make_interval(secs => $2) WHERE id = $1
"""

GIVE_UP = """
UPDATE upload SET problem = $2::jsonb, expires_at = now() + make_interval(secs => $3) WHERE id = $1
"""

DELETE = "DELETE FROM upload WHERE id = $1"

# What is assembled from sent bytes and a base needs space beside the sent bytes until they are removed.
OPEN = """
SELECT id, file->>'robot_id' AS robot_id,
       coalesce(length, 0)
           + CASE WHEN base IS NULL THEN 0 ELSE (file->>'size_bytes')::bigint END AS takes_bytes,
       coalesce((file->>'size_bytes')::bigint, length, 0) AS file_bytes
  FROM upload
 WHERE finished_at IS NULL AND problem IS NULL AND file IS NOT NULL AND expires_at > now()
"""

# The oldest first, so that a sweep that is broken off goes on where it was.
EXPIRED = "SELECT id FROM upload WHERE expires_at < now() ORDER BY expires_at LIMIT $1"


@dataclass(frozen=True)
class OfferedUpload:
    """Bytes that a client sends on its own, after describing the file in tus metadata.

    told         its description: the SHA-256 may be missing, the size is that of the upload
    metadata     the description as it arrived
    length       bytes that will be sent; None while the client has not said
    problem      why it was given up
    finished_at  when the file was stored
    """

    id: UUID
    told: Announced
    metadata: str
    length: int | None
    problem: Problem | None
    finished_at: datetime | None
    expires_at: datetime

    @property
    def limit(self) -> int:
        """Bytes that it may get."""
        return LIMITS[self.told["kind"]] if self.length is None else self.length


@dataclass(frozen=True)
class PlannedUpload:
    """Bytes that the server asked for, in answer to a plan: those of the file that it does not have.

    length       bytes that will be sent
    base         SHA-256 of the object that holds what is not sent
    copied       (offset in the file, length, offset in the base) of that
    chunks       content-defined chunks of the file, as FilePlan has them
    problem      why it was given up
    finished_at  when the file was stored
    """

    id: UUID
    file: VideoFile | DatasetFile
    length: int
    base: str | None
    copied: tuple[tuple[int, int, int], ...]
    chunks: bytes
    problem: Problem | None
    finished_at: datetime | None
    expires_at: datetime

    @property
    def limit(self) -> int:
        """Bytes that it may get."""
        return self.length

    @property
    def recipe(self) -> Recipe | None:
        """How the file is put together of what was sent and its base."""
        return None if self.base is None else Recipe(self.base, self.copied)


type Upload = OfferedUpload | PlannedUpload


@dataclass(frozen=True)
class OpenUpload:
    """An upload that can go on.

    takes_bytes  of the store, of which some may be taken already; 0 while its client has not said
    file_bytes   of the file once it is whole; 0 while its client has not said
    """

    id: UUID
    robot_id: str
    takes_bytes: int
    file_bytes: int


class UploadTable:
    """The table `upload`, each call a transaction of its own."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def robots_of(self, upload_id: str) -> list[str]:
        """The robot that an upload is of; none if there is no such upload."""
        try:
            key = UUID(upload_id)
        except ValueError:
            return []
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            robot_id = await connection.fetchval(ROBOT_OF, key)
        return [] if robot_id is None else [robot_id]

    async def add(
        self,
        upload_id: UUID,
        *,
        lasts_s: float,
        file: Announced | None = None,
        metadata: str = "",
        length: int | None = None,
        plan_key: str | None = None,
        base: str | None = None,
        copied: tuple[tuple[int, int, int], ...] = (),
        chunks: bytes = b"",
    ) -> None:
        """Note a new upload; nothing happens if there is an open one of the same plan."""
        await self._execute(
            ADD,
            upload_id,
            None if file is None else _json(file),
            metadata,
            length,
            plan_key,
            base,
            _json(copied),
            chunks,
            lasts_s,
        )

    async def find(self, upload_id: UUID) -> Upload | None:
        return await self._find(FIND, upload_id)

    async def find_planned(self, plan_key: str) -> PlannedUpload | None:
        """The open upload of a plan."""
        found = await self._find(FIND_PLANNED, plan_key)
        return found if isinstance(found, PlannedUpload) else None

    async def is_known(self, upload_id: UUID) -> bool:
        """Whether there is such an upload, of whichever kind."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            known: bool = await connection.fetchval(IS_KNOWN, upload_id)
            return known

    async def has_failed(self, plan_key: str) -> bool:
        """Whether an upload of this plan was given up not long ago."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            failed: bool = await connection.fetchval(HAS_FAILED, plan_key)
            return failed

    async def set_length(self, upload_id: UUID, length: int) -> None:
        """Note the length that a client told late; the first one told stays."""
        await self._execute(SET_LENGTH, upload_id, length)

    async def postpone(self, upload_id: UUID, lasts_s: float) -> datetime:
        """Let an upload expire so many seconds from now; gives the time."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            expires_at: datetime = await connection.fetchval(POSTPONE, upload_id, lasts_s)
            return expires_at

    async def finish(self, upload_id: UUID, lasts_s: float) -> None:
        """Note that the file is stored; the row stays so many seconds more."""
        await self._execute(FINISH, upload_id, lasts_s)

    async def give_up(self, upload_id: UUID, problem: Problem, lasts_s: float) -> None:
        """Note why nothing can become of the upload; the row stays so many seconds more."""
        await self._execute(GIVE_UP, upload_id, _json(problem), lasts_s)

    async def delete(self, upload_id: UUID) -> None:
        await self._execute(DELETE, upload_id)

    async def opened(self) -> list[OpenUpload]:
        """Every upload that is neither finished, nor given up, nor expired."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [OpenUpload(**row) for row in await connection.fetch(OPEN)]

    async def expired(self) -> list[UUID]:
        """Up to SWEEP_ROWS uploads whose time is over, the oldest first."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [row["id"] for row in await connection.fetch(EXPIRED, SWEEP_ROWS)]

    async def _execute(self, query: LiteralString, *values: Any) -> None:
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(query, *values)

    async def _find(self, query: LiteralString, value: Any) -> Upload | None:
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            row = await connection.fetchrow(query, value)
        return None if row is None else _upload(row)


def _upload(row: asyncpg.Record) -> Upload:
    problem = None if row["problem"] is None else read_noted(msgspec.json.decode(row["problem"]))
    if row["plan_key"] is None:
        told = msgspec.json.decode(row["file"])
        return OfferedUpload(
            row["id"], told, row["metadata"], row["length"], problem, row["finished_at"], row["expires_at"]
        )
    return PlannedUpload(
        id=row["id"],
        file=msgspec.json.decode(row["file"], type=VideoFile | DatasetFile),
        length=row["length"],
        base=row["base"],
        copied=msgspec.json.decode(row["copied"], type=tuple[tuple[int, int, int], ...]),
        chunks=row["chunks"],
        problem=problem,
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
    )


def _json(content: Any) -> str:
    return msgspec.json.encode(content).decode()
