"""Notes in the store about erasures, for a new database, or one that is restored to an older state.

Such a database has again what was erased after its time, or would take it from robots. It learns of the
erasures from the notes, and does them again.
"""

from datetime import datetime
from urllib.parse import quote
from uuid import UUID

import msgspec
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.store import Store, read_notes
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import StorageUnavailable

from teleop_telemetry.tables.erasure_rows import add_erasure

log = get_logger(__name__)

FOLDER = "erasures"
# A database that was restored is found out at the start of the services, or an hour after.
READ_EVERY_S = 3600.0
# Notes are written to the store while the connection is held.
TIMEOUT_S = 60.0

UNNOTED = """
SELECT id, session_id, stream_id, robot_id, dataset, asked_by, asked_at FROM erasure
 WHERE noted_at IS NULL ORDER BY id
"""
NOTED = "UPDATE erasure SET noted_at = now() WHERE id = $1"


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a note: a row of `erasure`."""

    robot_id: str
    asked_by: str
    asked_at: datetime
    session_id: int | None = None
    stream_id: UUID | None = None
    dataset: str | None = None

    @property
    def name(self) -> str:
        """Of the note."""
        if self.dataset is None:
            return f"{FOLDER}/streams/{self.stream_id}"
        return f"{FOLDER}/datasets/{self.robot_id}/{quote(self.dataset, safe='')}"


async def note_erasures(pool: Pool, store: Store) -> None:
    """Write the notes that are missing; raises StorageUnavailable."""
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        for row in await connection.fetch(UNNOTED):
            told = {name: value for name, value in row.items() if name != "id"}
            tombstone = msgspec.convert(told, Tombstone)
            try:
                await store.set_note(tombstone.name, msgspec.json.encode(tombstone))
            except OSError as error:
                raise StorageUnavailable(f"the file store can't be written: {error}") from error
            await connection.execute(NOTED, row["id"])


async def read_erasures(pool: Pool, store: Store) -> int:
    """Add the erasures that the store has notes of and the database does not know; returns how many."""
    added = 0
    names = [name async for name in store.list_notes(FOLDER)]
    async for name, content in read_notes(store, names):
        try:
            told = msgspec.json.decode(content, type=Tombstone)
        except DECODE_ERRORS as error:
            log.error("a note in the store can't be read", name=name, error=str(error))
            continue
        what = told.session_id, told.stream_id, told.robot_id, told.dataset
        async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
            added += await add_erasure(connection, *what, told.asked_by, told.asked_at)
    if added:
        log.warning("what this database did not know to be erased is erased again", erasures=added)
    return added
