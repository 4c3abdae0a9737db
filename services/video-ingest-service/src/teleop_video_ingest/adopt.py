"""`python -m teleop_video_ingest.adopt`: lets a new database take over the files of one
that is lost for good.

The other way round, it lets a database whose files are lost for good go on with an empty store: the database
learns which of its files are missing, and agents send again what they still have.

Afterwards the database has everything for which the store has notes: datasets, their versions and files, and
each video chunk with the frames that saw its pictures. Of files that were sent without a version, it has what
was stored last. Video belongs to sessions, so run `python -m teleop_telemetry.archive adopt` first. All other
files in the store are kept, although the database does not know them:
`python -m teleop_video_ingest.unclaimed` lists them by name. Robots and their agents send again what they
still have. You can run it again, also with a database that was restored to an older state.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from teleop_runtime.logs import get_logger
from teleop_runtime.ownership import holds_objects
from teleop_runtime.postgres.pool import Connection, Pool, connected, open_pool, transaction
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.settings import load_settings
from teleop_runtime.store import Store, open_store
from teleop_schema.commands.command_line import Parser
from teleop_schema.files import digest_of
from teleop_schema.words import counted

from teleop_video_ingest.datasets.version_notes import (
    VersionNote,
    forget_number,
    note_version,
    origin_of,
    read_versions,
)
from teleop_video_ingest.files.chunk_notes import AdoptedChunks, adopt_chunks
from teleop_video_ingest.files.dataset_notes import adopt_files, note_all_datasets
from teleop_video_ingest.settings import IngestSettings
from teleop_video_ingest.tables import sweep_table
from teleop_video_ingest.tables.dataset_table import ensure_dataset
from teleop_video_ingest.tables.version_table import adopt_version, find_adopted, find_origin
from teleop_video_ingest.upkeep.ownership import ASK
from teleop_video_ingest.upkeep.sweep import list_store, report_missing

log = get_logger(__name__)

# One connection reads, the other writes.
CONNECTIONS = 2
# Time limit for one walk over a store of millions of files.
LIST_TIMEOUT_S = 3600.0
# One transaction has all versions of a dataset with all of their files.
WRITE_TIMEOUT_S = 600.0
# The name of the database that is taking over the store, so that it can continue after it was killed.
ADOPTING_NOTE = "adopting"
# An empty store has no notes.
NOTE_AGAIN = "UPDATE video_chunk SET noted_at = NULL; UPDATE dataset_version SET noted_at = NULL"


@dataclass
class Adopted:
    """The result of taking over a store.

    files     files of datasets that no version told of
    left_out  versions of which a file is not in the store
    missing   files of the database that are not in the store
    """

    objects: int = 0
    missing: int = 0
    versions: int = 0
    files: int = 0
    left_out: int = 0
    chunks: AdoptedChunks = field(default_factory=AdoptedChunks)

    def __str__(self) -> str:
        told = [
            f"new to this database: {counted(self.objects, 'object')}; back: "
            f"{counted(self.versions, 'dataset version')} and {counted(self.chunks.back, 'video chunk')}"
        ]
        if self.files:
            told.append(f"back without a version: {counted(self.files, 'dataset file')}")
        if self.missing:
            missing = counted(self.missing, "file")
            told.append(f"missing in the store: {missing}: agents send again what they still have")
        if self.left_out:
            told.append(f"left out because files are missing: {counted(self.left_out, 'dataset version')}")
        if self.chunks.lost:
            told.append(f"left out because its file is missing: {counted(self.chunks.lost, 'video chunk')}")
        if self.chunks.sessionless:
            told.append(
                "left as plain files because their sessions are unknown here: "
                f"{counted(self.chunks.sessionless, 'video chunk')}; run this again after "
                "`python -m teleop_telemetry.archive adopt`, or once robots have sent them"
            )
        return "\n".join(told)


async def adopt(pool: Pool, store: Store, place: str) -> Adopted:
    """Take over the files of `place`, and everything that the store's notes say about them.

    Raises CannotStart if the database already has files of another store.
    """
    adopted = Adopted()
    begun = datetime.now(UTC)
    await begin(pool, store, place)
    async with connected(pool, timeout_s=LIST_TIMEOUT_S) as connection:
        await list_store(connection, store)
        adopted.objects = len(await sweep_table.adopt(connection))
        adopted.missing = await report_missing(connection, pool, store, begun)
        await sweep_table.end_listing(connection)
    notes = groupby(await read_versions(store), key=lambda note: (note.robot_id, note.dataset))
    for _, of_dataset in notes:
        await _adopt_dataset(pool, store, list(of_dataset), adopted)
    adopted.files = await adopt_files(pool, store)
    await note_all_datasets(pool, store)
    adopted.chunks = await adopt_chunks(pool, store)
    async with connected(pool, timeout_s=LIST_TIMEOUT_S) as connection:
        await store.own(str((await connection.fetch(ASK))[0][0]))
    return adopted


async def begin(pool: Pool, store: Store, place: str) -> None:
    """Write down that the database is taking over the files of `place`; raises CannotStart if it may not.

    A database that has files may do so only with an empty place, because then its own files are lost.
    """
    async with connected(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
        database, knows_files = (await connection.fetch(ASK))[0]
    owner = await store.owner()
    begun = await store.note(ADOPTING_NOTE) == database.encode()
    if owner is None and not await holds_objects(store):
        async with connected(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
            await connection.execute(NOTE_AGAIN)
    elif knows_files and owner != database and not begun:
        raise CannotStart(
            f"this database already has files of its own: only a new one can take over those in {place}"
        )
    await store.set_note(ADOPTING_NOTE, database.encode())


async def _adopt_dataset(pool: Pool, store: Store, notes: list[VersionNote], adopted: Adopted) -> None:
    """Take over the versions of one dataset from their notes, in the order in which they were made."""
    for note in notes:
        async with transaction(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
            number, new = await _take(connection, store, note, notes)
        if number is None:
            adopted.left_out += 1
            log.warning(
                "a version is left out because some of its files are missing",
                robot_id=note.robot_id,
                dataset=note.dataset,
                version=note.version,
            )
            continue
        adopted.versions += new
        if new and number != note.version:
            await forget_number(store, note)


async def _take(
    connection: Connection, store: Store, note: VersionNote, notes: list[VersionNote]
) -> tuple[int | None, bool]:
    """Add a version; returns its number in the database, None if a file is missing, and whether it is new.

    If it can't keep its number, its note gets the new one, so that the next database takes it over with that.
    """
    dataset_id = await ensure_dataset(connection, note.robot_id, note.dataset)
    digest = digest_of(note.manifest)
    known = await find_adopted(connection, dataset_id, digest, note.source, note.created_at)
    if known is not None:
        return known, False
    origin, repaired_from = origin_of(note, notes), None
    if origin is not None:
        repaired_from = await find_origin(connection, dataset_id, origin, note.created_at)
    row = await adopt_version(
        connection,
        dataset_id,
        note.manifest,
        digest,
        version=note.version,
        highest=max(each.version for each in notes),
        source=note.source,
        repaired_from=repaired_from,
        created_at=note.created_at,
    )
    if row is None:
        return None, False
    if row["version"] != note.version or repaired_from != note.repaired_from:
        await note_version(connection, store, row["id"])
    return row["version"], True


async def _adopt_at(database_url: str, store_url: str) -> Adopted:
    store = await asyncio.to_thread(open_store, store_url)
    async with open_pool(database_url, max_size=CONNECTIONS) as pool:
        return await adopt(pool, store, store_url)


def main() -> int:
    """Exit status 0 if it was done, 1 if not; the reason is on standard error."""
    Parser(prog="python -m teleop_video_ingest.adopt", description=__doc__).parse_args()
    settings = load_settings(IngestSettings)
    try:
        print(asyncio.run(_adopt_at(settings.database_url, settings.store_url)))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
