"""Notes in the store of what the database knows of datasets' versions, for a database that is made anew.

A version that stays has a note of its own; of those that are thinned out only the newest of each dataset.
"""

from datetime import datetime

import msgspec
from msgspec import Struct
from teleop_runtime.database import Connection, Pool, connected
from teleop_runtime.logs import get_logger
from teleop_runtime.store import Store, read_notes
from teleop_schema.files import Manifest, ManifestFile

log = get_logger(__name__)

FOLDER = "versions"
UNFINISHED = "unfinished"
NOTED_TOGETHER = 100
READ_TIMEOUT_S = 120.0

UNNOTED = "SELECT id FROM dataset_version WHERE noted_at IS NULL ORDER BY id LIMIT $1"
VERSION = """
SELECT v.*, d.robot_id, d.name FROM dataset_version v JOIN dataset d ON d.id = v.dataset_id WHERE v.id = $1
"""
FILES = "SELECT path, size_bytes, sha256 FROM dataset_version_file WHERE version_id = $1 ORDER BY path"
NOTED = "UPDATE dataset_version SET noted_at = now() WHERE id = $1"


class VersionNote(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version as the store remembers it."""

    robot_id: str
    dataset: str
    version: int
    source: str
    created_at: datetime
    manifest: Manifest
    repaired_from: int | None = None

    @property
    def name(self) -> str:
        """Under which it is noted."""
        stays = self.manifest.finalised or self.source == "repair"
        return f"{FOLDER}/{self.robot_id}/{self.dataset}/{self.version if stays else UNFINISHED}"


async def note_all_versions(pool: Pool, store: Store) -> None:
    """Note every version that is not noted yet: those of a release that noted them later, or not at all."""
    while await _note_some(pool, store):
        pass


async def _note_some(pool: Pool, store: Store) -> int:
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        unnoted = await connection.fetch(UNNOTED, NOTED_TOGETHER)
        for row in unnoted:
            await note_version(connection, store, row["id"])
    return len(unnoted)


async def note_version(connection: Connection, store: Store, version_id: int) -> None:
    """Note a version, on a connection that sees its row."""
    row = await connection.fetchrow(VERSION, version_id)
    assert row is not None  # noqa: S101
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
    )
    await store.set_note(note.name, msgspec.json.encode(note))
    await connection.execute(NOTED, version_id)


async def read_versions(store: Store) -> list[VersionNote]:
    """All notes, the versions of each dataset ascending; what can't be read is told in the log."""
    notes = []
    names = [name async for name in store.list_notes(FOLDER)]
    async for name, content in read_notes(store, names):
        try:
            notes.append(msgspec.json.decode(content, type=VersionNote))
        except msgspec.MsgspecError as error:
            log.error("a note of the store can't be read", name=name, error=str(error))
    return sorted(notes, key=lambda note: (note.robot_id, note.dataset, note.version))
