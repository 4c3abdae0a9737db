"""Looks at episodes: after their end, after a change, and at all that were recorded before."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.frames import FrameReader
from teleop_runtime.postgres.pool import Pool
from teleop_schema.errors import SessionArchived

from teleop_telemetry.archive import ArchivedFrames, ArchiveReader
from teleop_telemetry.suspicion.history import Digest, History
from teleop_telemetry.suspicion.look_table import Look, LookTable
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.measuring import Measured, flags_of, measure, suspicion_of
from teleop_telemetry.suspicion.peers import EpisodeKey, compare_with_task, distance, nearest
from teleop_telemetry.suspicion.recording import Floats, Recording, signal_names
from teleop_telemetry.suspicion.threshold_table import Thresholds, ThresholdTable

log = get_logger(__name__)

# An episode has its flags this long after its end, and a little more.
LOOK_EVERY_S = 2.0
# A greater version measures all episodes again.
RULES = 1
# More frames of an episode are not looked at: an hour at 60 Hz, of which the arrays take some 100 MiB.
MOST_FRAMES = 216_000
# After each look, this many times as long as it took belongs to robots and readers.
REST = 1.0
# Looks of one round; the next one sees thresholds that were set meanwhile.
MOST_LOOKS = 200
# After a look that could not be finished, doubled each time.
AGAIN_AFTER_S, AGAIN_AT_LEAST_EVERY_S = 30.0, 3600.0


class Looking:
    """Looks at the episodes that are due; each is looked at by one replica."""

    def __init__(self, pool: Pool, database_url: str, archive: ArchiveReader | None) -> None:
        """`archive`: where frames are that have left the database; None: they can't be read here."""
        self._table = LookTable(pool, RULES)
        self._thresholds = ThresholdTable(pool)
        self._database_url = database_url
        self._archive = archive

    async def once(self) -> None:
        """Look at what is due, with pauses in between."""
        thresholds = await self._thresholds.thresholds()
        await self._table.mark_old(_basis(thresholds))
        for _ in range(MOST_LOOKS):
            if (claimed := await self._table.claim()) is None:
                return
            begun = time.monotonic()
            await self._try(*claimed, thresholds)
            await asyncio.sleep(REST * (time.monotonic() - begun))

    async def _try(self, until: datetime, look: Look, thresholds: Thresholds) -> None:
        """Look at one; one that can't be looked at does not hold up the others."""
        try:
            await self._look(until, look, thresholds)
        except Exception as error:
            log.warning(
                "an episode could not be looked at",
                session=look.session_id,
                episode=look.episode_index,
                error=repr(error),
            )
            pause_s = min(AGAIN_AFTER_S * 2 ** min(look.attempts, 20), AGAIN_AT_LEAST_EVERY_S)
            await self._table.put_off(look, until, pause_s)

    async def _look(self, until: datetime, look: Look, thresholds: Thresholds) -> None:
        measured, digest = look.measured, look.digest
        if measured is None:
            found = await self._measure(look)
            measured, digest = found if isinstance(found, tuple) else (found.measurements, found.digest)
        compared: list[Measurement] = []
        again: list[EpisodeKey] = []
        if digest is not None:
            compared, again = await self._compare(look, digest, thresholds)
        flags = flags_of([*measured, *compared], thresholds.of)
        await self._table.keep(
            look,
            until,
            basis=_basis(thresholds),
            measured=measured,
            digest=digest,
            flags=flags,
            suspicion=suspicion_of(flags),
            again=again,
        )

    async def _compare(
        self, look: Look, digest: Digest, thresholds: Thresholds
    ) -> tuple[list[Measurement], list[EpisodeKey]]:
        """With others; and which of these are later ones that are alike, which are the duplicates then."""
        bounds = look.start_frame, look.end_frame
        peers = await self._table.peers(look)
        as_long = await self._table.as_long(look, digest.duration_s)
        earlier = {key: other for key, other in as_long.items() if key < look.key}
        like = nearest(digest, earlier, *bounds)
        compared = [*compare_with_task(digest, peers, *bounds), *([] if like is None else [like])]
        if look.measured is not None:
            return compared, []
        later = ((key, other) for key, other in as_long.items() if key > look.key)
        alike = [
            key
            for key, other in later
            if other.names == digest.names and distance(digest, other) < thresholds.of["duplicate"]
        ]
        return compared, alike

    async def _measure(self, look: Look) -> Measured | tuple[list[Measurement], None]:
        names = signal_names(look.state_names, look.action_names)
        history = History(await self._table.history(look, names))
        async with self._frames(look) as reader:
            table = await asyncio.to_thread(
                partial(
                    reader.read,
                    look.session_id,
                    look.start_frame,
                    look.end_frame,
                    state_width=len(look.state_names),
                    action_width=len(look.action_names),
                    limit=MOST_FRAMES,
                )
            )
        if table.num_rows:
            measured = await asyncio.to_thread(lambda: measure(recording_of(look, table), history))
            if measured is not None:
                return measured
        elif look.end_frame > look.start_frame:
            return [Measurement("dropped_frames", 100.0, look.start_frame, look.end_frame)], None
        return [], None

    @asynccontextmanager
    async def _frames(self, look: Look) -> AsyncIterator[FrameReader | ArchivedFrames]:
        if look.archived:
            if self._archive is None:
                raise SessionArchived(f"the frames of session {look.session_id} are in the archive")
            async with self._archive.frames(look.session_id) as archived:
                yield archived
            return
        reader = await asyncio.to_thread(FrameReader, self._database_url)
        try:
            yield reader
        finally:
            reader.close()


def recording_of(look: Look, table: pa.Table) -> Recording:
    """The recording of an episode's frames, as FrameReader has read them, at least one."""
    return Recording(
        fps=look.fps,
        index=table["frame_index"].to_numpy(),
        time_us=table["timestamp"].cast(pa.int64()).to_numpy(),
        state=_matrix(table["state"], len(look.state_names)),
        action=_matrix(table["action"], len(look.action_names)),
        age_us=table["observation_age_us"].fill_null(0).to_numpy(),
        state_names=look.state_names,
        action_names=look.action_names,
        pauses=look.pauses,
    )


def _matrix(column: pa.ChunkedArray, width: int) -> Floats:
    """(rows, width)"""
    if not width:
        return np.zeros((len(column), 0))
    values = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    matrix: Floats = values.astype(np.float64).reshape(-1, width)
    return matrix


def _basis(thresholds: Thresholds) -> int:
    return (RULES << 32) + thresholds.revision
