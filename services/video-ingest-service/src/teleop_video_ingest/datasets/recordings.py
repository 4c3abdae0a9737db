"""Which states of a dataset belong to one recording: a later state contains everything of an earlier one.

A name may have had several recordings: a recorder was killed, its folder was removed, and the same command
was started again; or two computers record under one robot's id. No number distinguishes them, but the bytes
do: while LeRobot records, it only appends rows to `data/…/*.parquet`, and saves an episode once its rows are
there.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime

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
    by_content: dict[str, list[Difference]] = {}
    for file in files:
        by_content.setdefault(file.new_sha256 or "", []).append(file)
    other: list[Difference] = []
    for sha256, grown in by_content.items():
        begun = await beginnings(store, sha256, {file.size_bytes for file in grown})
        other += [file for file in grown if file.sha256 not in begun]
    return other


async def beginnings(store: Store, sha256: str, sizes: set[int]) -> set[str]:
    """SHA-256 of the object's first bytes, for each of `sizes`; empty if the object is missing."""
    found: set[str] = set()
    read, begun = 0, hashlib.sha256()
    left = sorted(sizes)
    try:
        async for block in store.read(sha256, 0, left[-1]):
            view = memoryview(block)
            while left and left[0] <= read + len(view):
                begun.update(view[: left[0] - read])
                view = view[left[0] - read :]
                read = left.pop(0)
                found.add(begun.hexdigest())
            begun.update(view)
            read += len(view)
    except ObjectMissing:
        log.warning("states of a recording can't be compared because an object is missing", sha256=sha256)
        return set()
    return found
