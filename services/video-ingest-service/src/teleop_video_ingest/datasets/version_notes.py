"""Notes in the store about the versions of datasets, for a new database.

Each version has its own note, which is removed when the version is thinned out.
"""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.noting import note_all
from teleop_runtime.postgres.pool import Connection, Pool
from teleop_runtime.store import Store, read_notes
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.files import Manifest, ManifestFile, digest_of

log = get_logger(__name__)

FOLDER = "versions"
# Largest note: all files of a version.
READ_TIMEOUT_S = 120.0

UNNOTED = "SELECT id FROM dataset_version WHERE noted_at IS NULL ORDER BY id LIMIT $1"
VERSION = """
SELECT v.*, d.robot_id, d.name, origin.manifest_sha256 AS origin_sha256
  FROM dataset_version v
  JOIN dataset d ON d.id = v.dataset_id
  LEFT JOIN dataset_version origin ON origin.dataset_id = v.dataset_id AND origin.version = v.repaired_from
 WHERE v.id = $1
"""
FILES = "SELECT path, size_bytes, sha256 FROM dataset_version_file WHERE version_id = $1 ORDER BY path"
NOTED = "UPDATE dataset_version SET noted_at = now() WHERE id = $1 RETURNING id"


class VersionNote(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version as described in its note.

    repaired_from         number of the version from which it was repaired, when this note was written
    repaired_from_sha256  hash of that version's manifest, because numbers may be given again
    """

    robot_id: str
    dataset: str
    version: int
    source: str
    created_at: datetime
    manifest: Manifest
    repaired_from: int | None = None
    repaired_from_sha256: str | None = None


async def note_all_versions(pool: Pool, store: Store) -> None:
    """Write missing notes of versions, from releases that wrote them later or not at all."""

    async def note(connection: Connection, version_id: int) -> None:
        await note_version(connection, store, version_id)

    await note_all(pool, _unnoted, note, timeout_s=READ_TIMEOUT_S)


async def _unnoted(connection: Connection, limit: int) -> list[int]:
    return [row["id"] for row in await connection.fetch(UNNOTED, limit)]


async def note_version(connection: Connection, store: Store, version_id: int) -> None:
    """Write the note of a version, on a connection that sees its row."""
    row = await connection.fetchrow(VERSION, version_id)
    if row is None:
        return  # the version was thinned out, or erased, meanwhile
    files = await connection.fetch(FILES, version_id)
    manifest = Manifest(
        files=tuple(ManifestFile(*file) for file in files),
        total_episodes=row["total_episodes"],
        total_frames=row["total_frames"],
        finalised=row["finalised"],
    )
    note = VersionNote(
        robot_id=row["robot_id"],
        dataset=row["name"],
        version=row["version"],
        source=row["source"],
        created_at=row["created_at"],
        manifest=manifest,
        repaired_from=row["repaired_from"],
        repaired_from_sha256=row["origin_sha256"],
    )
    await store.set_note(_name_of(row), msgspec.json.encode(note))
    if await connection.fetchval(NOTED, version_id) is None:
        await store.remove_note(_name_of(row))  # the same, between the two


async def remove_note(connection: Connection, store: Store, version_id: int) -> None:
    """Remove the note of a version whose row is about to be deleted."""
    row = await connection.fetchrow(VERSION, version_id)
    assert row is not None  # noqa: S101
    await store.remove_note(_name_of(row))


async def forget_number(store: Store, note: VersionNote) -> None:
    """Remove a note of a version that has another number now, and is noted with that."""
    await store.remove_note(_name(note.robot_id, note.dataset, note.version, digest_of(note.manifest)))


def _name_of(row: asyncpg.Record) -> str:
    return _name(row["robot_id"], row["name"], row["version"], row["manifest_sha256"])


def _name(robot_id: str, dataset: str, version: int, manifest_sha256: str) -> str:
    """By its content, too: a database that was restored to an older state may give a number once more."""
    return f"{FOLDER}/{robot_id}/{dataset}/{version}-{manifest_sha256[:12]}"


def origin_of(repair: VersionNote, notes: Sequence[VersionNote]) -> str | None:
    """SHA-256 of the manifest of which a repair was made; None if nothing tells it.

    notes  of its dataset: those of earlier releases say it by number alone, so it is the version that had
           this number then
    """
    if repair.repaired_from is None or repair.repaired_from_sha256 is not None:
        return repair.repaired_from_sha256
    had_it = [
        note
        for note in notes
        if note.version == repair.repaired_from and note.created_at <= repair.created_at
    ]
    return digest_of(max(had_it, key=lambda note: note.created_at).manifest) if had_it else None


async def read_versions(store: Store) -> list[VersionNote]:
    """All notes, each dataset's in the order they were made; what can't be read is told in the log."""
    notes = []
    names = [name async for name in store.list_notes(FOLDER)]
    async for name, content in read_notes(store, names):
        try:
            notes.append(msgspec.json.decode(content, type=VersionNote))
        except DECODE_ERRORS as error:
            log.error("a note in the store can't be read", name=name, error=str(error))
    return sorted(notes, key=lambda note: (note.robot_id, note.dataset, note.created_at, note.version))
