"""Which states of a dataset belong to one recording: a later state contains everything of an earlier one.

A name may have had several recordings: a recorder was killed, its folder was removed, and the same command
was started again; or two computers record under one robot's id. No number distinguishes them, but the bytes
do: while LeRobot records, it only appends rows to `data/…/*.parquet`, and saves an episode once its rows are
there. It writes videos again, but copies what they had: the payload of an mp4's `mdat` begins with that
of the previous one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from teleop_dataset.errors import BrokenFile
from teleop_dataset.mp4 import MAX_BOX_HEAD_BYTES, outer_box
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.store import ObjectMissing, Store

from teleop_video_ingest.tables.recording_table import (
    Difference,
    RecordingState,
    differences,
    set_recording,
    unfinalised,
    unjudged_datasets,
    with_rows,
)

log = get_logger(__name__)

# Time limit for reading and writing the rows of one dataset's episodes.
TIMEOUT_S = 120.0
# Each costs a request to S3; a recorder's mp4 has four (ftyp, moov, free, mdat).
MOST_BOXES = 50


async def judge_recordings(pool: Pool, store: Store, *, more_than: int) -> None:
    """Find the recording of states for which it is not known, in datasets with more than this many states.

    A state that no later one is known to contain begins its own recording.
    """
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        datasets = await unjudged_datasets(connection, more_than)
    for dataset_id in datasets:
        async with connected(pool, timeout_s=TIMEOUT_S) as connection:
            states = await unfinalised(connection, dataset_id)
        while unjudged := [state for state in states if state.begun is None]:
            states = await _judge(pool, store, states, unjudged)


async def _judge(
    pool: Pool, store: Store, states: Sequence[RecordingState], unjudged: Sequence[RecordingState]
) -> list[RecordingState]:
    """Store the recording of the newest of `unjudged`, and of others that it contains;
    returns all `states`."""
    newest = unjudged[-1]
    heads = {state.begun: state for state in states if state.begun is not None}
    earlier = [*unjudged[:-1], *(head for head in heads.values() if _age(head) < _age(newest))]
    held = await _held(pool, store, newest, earlier)
    known = [state for state in held if state.begun is not None]
    same = [newest, *(state for state in held if state.begun is None)]
    begun = known[-1].begun if known else min(state.created_at for state in same)
    assert begun is not None  # noqa: S101
    ids = [state.id for state in same]
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        await set_recording(connection, ids, begun)
    return [state._replace(begun=begun) if state.id in ids else state for state in states]


async def _held(
    pool: Pool, store: Store, newest: RecordingState, earlier: Sequence[RecordingState]
) -> list[RecordingState]:
    """The states of `earlier`, oldest first, that `newest` contains: no file is gone,
    and rows were only added."""
    ids = [state.id for state in earlier]
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        rows = await with_rows(connection, ids)
        changed = await differences(connection, ids, newest.id)
    other = {each.state_id for each in changed if not _may_have_grown(each)}
    held = [
        state
        for state in sorted(earlier, key=_age)
        if state.id in rows - other and state.episodes <= newest.episodes and state.frames <= newest.frames
    ]
    candidates = {state.id for state in held}
    grown = [each for each in changed if each.state_id in candidates]
    other = {each.state_id for each in await _not_grown(store, grown)}
    return [state for state in held if state.id not in other]


def _age(state: RecordingState) -> tuple[datetime, int]:
    return state.created_at, state.version


def _may_have_grown(file: Difference) -> bool:
    return file.new_size_bytes is not None and file.size_bytes < file.new_size_bytes


async def _not_grown(store: Store, files: Iterable[Difference]) -> list[Difference]:
    """The changes in which the newer content does not begin with the older one.
    Reads each newer content once."""
    by_content: dict[tuple[str, int], list[Difference]] = {}
    for file in files:
        by_content.setdefault((file.new_sha256 or "", file.new_size_bytes or 0), []).append(file)
    other: list[Difference] = []
    for (sha256, size_bytes), grown in by_content.items():
        if grown[0].path.endswith(".mp4"):
            other += await _other_pictures(store, grown, sha256, size_bytes)
        else:
            begun = await beginnings(store, sha256, {file.size_bytes for file in grown})
            other += [file for file in grown if file.sha256 not in begun]
    return other


async def _other_pictures(
    store: Store, files: Sequence[Difference], new_sha256: str, new_size_bytes: int
) -> list[Difference]:
    """Those of the mp4s with whose `mdat` that of the newer one does not begin."""
    new = await media_of(store, new_sha256, new_size_bytes)
    older = [(file, await media_of(store, file.sha256, file.size_bytes)) for file in files]
    comparable = [(file, media) for file, media in older if 0 < media.length <= new.length]
    held: set[Difference] = set()
    if comparable:
        lengths = {media.length for _, media in comparable}
        begun = await beginnings(store, new_sha256, lengths, start=new.begin)
        for file, media in comparable:
            if await beginnings(store, file.sha256, {media.length}, start=media.begin) & begun:
                held.add(file)
    return [file for file in files if file not in held]


class Media(NamedTuple):
    """The payload of an mp4's `mdat`."""

    begin: int
    length: int


NO_MEDIA = Media(0, 0)


async def media_of(store: Store, sha256: str, size_bytes: int) -> Media:
    """Where an object's first `mdat` is, as far as the object reaches; NO_MEDIA if there is none to read."""
    position = 0
    try:
        for _ in range(MOST_BOXES):
            if position >= size_bytes:
                break
            head = [part async for part in store.read(sha256, position, position + MAX_BOX_HEAD_BYTES)]
            box = outer_box(b"".join(head), position, size_bytes)
            if box is None:
                return NO_MEDIA
            kind, begin, position = box
            if kind == b"mdat":
                return Media(begin, min(position, size_bytes) - begin)
    except ObjectMissing:
        _tell_missing(sha256)
    except BrokenFile:
        pass
    return NO_MEDIA


async def beginnings(store: Store, sha256: str, lengths: set[int], *, start: int = 0) -> set[str]:
    """SHA-256 of the object's first bytes from `start` on, for each of `lengths`; empty if it is missing.

    lengths  above 0, and within the object
    """
    found: set[str] = set()
    read, begun = 0, hashlib.sha256()
    left = sorted(lengths)
    try:
        async for block in store.read(sha256, start, start + left[-1]):
            view = memoryview(block)
            while left and left[0] <= read + len(view):
                begun.update(view[: left[0] - read])
                view = view[left[0] - read :]
                read = left.pop(0)
                found.add(begun.hexdigest())
            begun.update(view)
            read += len(view)
    except ObjectMissing:
        _tell_missing(sha256)
        return set()
    return found


def _tell_missing(sha256: str) -> None:
    log.warning("states of a recording can't be compared because an object is missing", sha256=sha256)
