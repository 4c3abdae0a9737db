"""Notes in the store about datasets, so that a new database knows whose the files in its tree are.

A dataset's name may have slashes, so a path alone does not tell where the name ends. With the note, files
that were sent without a version come back, too: of each path the content that was stored last.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from urllib.parse import quote

import msgspec
from msgspec import Struct
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import check_dataset
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.store import Store, read_notes
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import DatasetErased
from teleop_schema.files import DatasetFile

from teleop_video_ingest.errors import NamesOverlap
from teleop_video_ingest.model.tree import dataset_path
from teleop_video_ingest.tables.dataset_table import add_revision, all_datasets, ensure_dataset, newest_file
from teleop_video_ingest.tables.object_table import sound_size

log = get_logger(__name__)

FOLDER = "datasets"
READ_TIMEOUT_S = 120.0
# One transaction has all files of a dataset.
WRITE_TIMEOUT_S = 600.0


class DatasetNote(Struct, frozen=True):
    """The content of a note."""

    robot_id: str
    dataset: str


async def note_dataset(store: Store, robot_id: str, dataset: str) -> None:
    """Write the note of a dataset."""
    note = DatasetNote(robot_id, dataset)
    await store.set_note(_name(robot_id, dataset), msgspec.json.encode(note))


async def forget_dataset(store: Store, robot_id: str, dataset: str) -> None:
    """Remove the note of a dataset."""
    await store.remove_note(_name(robot_id, dataset))


async def note_all_datasets(pool: Pool, store: Store) -> None:
    """Write missing notes of datasets, from a release without notes."""
    noted = {name async for name in store.list_notes(FOLDER)}
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        datasets = await all_datasets(connection)
    for robot_id, dataset in datasets:
        if _name(robot_id, dataset) not in noted:
            with suppress(DatasetErased):
                async with transaction(pool, timeout_s=READ_TIMEOUT_S) as connection:
                    await check_dataset(connection, robot_id, dataset, hold=True)
                    await note_dataset(store, robot_id, dataset)


async def adopt_files(pool: Pool, store: Store) -> int:
    """Give the datasets for which the store has notes the files that its tree names, unless they have them;
    returns how many. After the versions, because what was stored last is the newest. May be repeated."""
    files: dict[DatasetNote, list[tuple[str, str]]] = {note: [] for note in await _read(store)}
    by_folder = {dataset_path(note.robot_id, note.dataset, ""): note for note in files}
    async for path, sha256 in store.list_names():
        for folder in _folders(path):
            if (note := by_folder.get(folder)) is not None:
                files[note].append((path.removeprefix(folder), sha256))
    return sum([await _adopt(pool, note, found) for note, found in files.items()])


async def _adopt(pool: Pool, note: DatasetNote, files: Sequence[tuple[str, str]]) -> int:
    if not files:
        return 0  # its first file was refused after the note was written
    added = 0
    async with transaction(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
        try:
            dataset_id = await ensure_dataset(connection, note.robot_id, note.dataset)
        except NamesOverlap as error:
            log.warning("a dataset is left out", robot_id=note.robot_id, error=error.detail)
            return 0
        for path, sha256 in files:
            known = await newest_file(connection, note.robot_id, note.dataset, path)
            size_bytes = await sound_size(connection, sha256)
            if size_bytes is not None and (known is None or known["sha256"] != sha256):
                file = DatasetFile(
                    robot_id=note.robot_id,
                    dataset=note.dataset,
                    path=path,
                    size_bytes=size_bytes,
                    sha256=sha256,
                )
                await add_revision(connection, dataset_id, file)
                added += 1
    return added


async def _read(store: Store) -> list[DatasetNote]:
    notes = []
    async for name, content in read_notes(store, [name async for name in store.list_notes(FOLDER)]):
        try:
            notes.append(msgspec.json.decode(content, type=DatasetNote))
        except DECODE_ERRORS as error:
            log.error("a note in the store can't be read", name=name, error=str(error))
    return notes


def _name(robot_id: str, dataset: str) -> str:
    """Without folders: a note is a file, and the name of another dataset may begin with this one's."""
    return f"{FOLDER}/{robot_id}/{quote(dataset, safe='')}"


def _folders(path: str) -> Iterable[str]:
    """Every folder that the path is in, with a slash at its end."""
    parts = path.split("/")
    return ("/".join(parts[:depth]) + "/" for depth in range(1, len(parts)))
