"""The rows of a dataset as frames of a session, a few thousand at a time, each checked."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from teleop_schema.columns import Column
from teleop_schema.limits import FIRST_US, LAST_US
from teleop_schema.words import counted

from teleop_dataset.errors import BrokenFile, NotImportable
from teleop_dataset.importing.columns import as_dtype, flat_values, plain_numbers, read_batches
from teleop_dataset.importing.described import Described
from teleop_dataset.v3.info import ACTION, CAPTURE_TIME, DEFAULT_FEATURES, OBSERVATION_AGE, STATE

US_PER_S, NS_PER_US, US_PER_MS = 1_000_000, 1_000, 1_000
# LeRobot's own tolerance: a time closer to frame_index / fps than this is that time.
TOLERANCE_S = 1e-4
# Of a session's frames beyond their vectors, as they are in its table.
FRAMES = pa.schema(
    [
        pa.field("frame_index", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("state", pa.list_(pa.float32())),
        pa.field("action", pa.list_(pa.float32())),
        pa.field("observation_age_us", pa.int64()),
    ]
)


class ImportedEpisode(msgspec.Struct, frozen=True):
    """Frames `first` to `end - 1`.

    tasks   (frame, task) from which on it is the task; the first is that of `first`
    digest  of all values and tasks of its frames: two episodes with the same one are the same
    """

    first: int
    end: int
    tasks: list[tuple[int, str]]
    digest: str


class FrameTables:
    """Reads the frames of a dataset once, in order; what its episodes are is known at the end."""

    def __init__(self, root: Path, described: Described, started_us: int) -> None:
        """`started_us`: time of the first frame, us since the Unix epoch, if the dataset tells none."""
        self._root = root
        self._about = described
        self._started_us = started_us
        self._ends = np.cumsum(np.array(described.lengths, np.int64))
        self._own_clock = CAPTURE_TIME in described.own
        self._tasks: list[list[tuple[int, str]]] = [[] for _ in described.lengths]
        self._running = self._begun()
        self._digests: list[str] = []
        self._next = 0

    @property
    def knows_times(self) -> bool:
        """Whether the dataset tells when its frames were taken."""
        return self._own_clock

    def read(self) -> Iterator[tuple[pa.Table, list[pa.Array]]]:
        """(frames, one array for each column) of the next rows: frames with the schema FRAMES; a column's
        array has one plain value or one list per frame.

        Raises NotImportable.
        """
        about = self._about
        wanted = [*DEFAULT_FEATURES, *(each.name for each in about.columns)]
        wanted += [key for key, width in zip((STATE, ACTION), about.widths, strict=True) if width]
        wanted += [key for key in about.own if key in (CAPTURE_TIME, OBSERVATION_AGE)]
        for path in sorted(self._root.glob("data/*/*.parquet")):
            told = path.relative_to(self._root).as_posix()
            try:
                for batch in read_batches(path, wanted):
                    if batch.num_rows:
                        yield self._frames(batch)
            except NotImportable as error:
                raise NotImportable(f"{told}: {error.detail}", field=error.field) from None
            except (pa.ArrowException, BrokenFile, OSError, ValueError) as error:
                raise NotImportable(f"{told}: {getattr(error, 'detail', error)}", field=told) from None
        if self._next != about.frames:
            what = f"its data have {counted(self._next, 'row')}, its table of episodes {about.frames}"
            raise NotImportable(what, field="total_frames")

    def episodes(self) -> list[ImportedEpisode]:
        """What was read, once all was."""
        ends = self._ends.tolist()
        return [
            ImportedEpisode(end - length, end, tasks, digest)
            for end, length, tasks, digest in zip(
                ends, self._about.lengths, self._tasks, self._digests, strict=True
            )
        ]

    def _frames(self, batch: pa.RecordBatch) -> tuple[pa.Table, list[pa.Array]]:
        rows = np.arange(self._next, self._next + batch.num_rows)
        if rows[-1] >= self._about.frames:
            raise NotImportable("there are more rows than episodes", field="total_frames")
        episode = np.searchsorted(self._ends, rows, side="right")
        within = rows - (self._ends[episode] - np.array(self._about.lengths, np.int64)[episode])
        for name, expected in (("index", rows), ("episode_index", episode), ("frame_index", within)):
            if (plain_numbers(batch, name) != expected).any():
                raise NotImportable(f"{name} does not count from row {rows[0]} on", field=name)
        state, action = (
            self._vectors(batch, key, width)
            for key, width in zip((STATE, ACTION), self._about.widths, strict=True)
        )
        columns = [
            as_dtype(flat_values(batch, each.name, each.shape), each.name, each.dtype)
            for each in self._about.columns
        ]
        tasks = self._task_numbers(batch)
        self._note(rows, episode, tasks, [state, action, *columns])
        frames = pa.table(
            [
                pa.array(rows),
                pa.array(self._times(batch, rows, within)).cast(FRAMES.field("timestamp").type),
                _lists(state, batch.num_rows),
                _lists(action, batch.num_rows),
                self._ages(batch),
            ],
            FRAMES,
        )
        self._next += batch.num_rows
        shaped = [_shaped(each, column) for each, column in zip(columns, self._about.columns, strict=True)]
        return frames, shaped

    def _vectors(self, batch: pa.RecordBatch, key: str, width: int) -> pa.Array:
        if not width:
            return pa.array([], pa.float32())
        told = flat_values(batch, key, (width,))
        values = as_dtype(told, key, "float32")
        if told.type == pa.float64():
            exact, kept = told.to_numpy(), values.to_numpy().astype(np.float64)
            if not np.array_equal(exact, kept, equal_nan=True):
                what = (
                    f"{key} has values of float64 that float32 does not hold, as LeRobot's robots have them"
                )
                raise NotImportable(what, field=key)
        return values

    def _task_numbers(self, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
        numbers = plain_numbers(batch, "task_index")
        if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= len(self._about.tasks):
            raise NotImportable("a row names a task that does not exist", field="task_index")
        return numbers.astype(np.int64)

    def _times(
        self, batch: pa.RecordBatch, rows: npt.NDArray[np.int64], within: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """When each frame was taken, us since the Unix epoch."""
        if self._own_clock:
            told_ns = plain_numbers(batch, CAPTURE_TIME)
            if told_ns.dtype.kind not in "iu":
                raise NotImportable(f"{CAPTURE_TIME} is not a whole number", field=CAPTURE_TIME)
            taken_us: npt.NDArray[np.int64] = told_ns.astype(np.int64) // NS_PER_US
        else:
            fps = self._about.fps
            within_s = plain_numbers(batch, "timestamp").astype(np.float64)
            if not np.isfinite(within_s).all() or np.abs(within_s).max() > LAST_US / US_PER_S:
                raise NotImportable("a timestamp is not a time", field="timestamp")
            # Single precision is off by more than a microsecond after some seconds.
            off_s = np.where(np.abs(within_s - within / fps) <= TOLERANCE_S, 0.0, within_s - within / fps)
            taken_us = self._started_us + np.rint((rows / fps + off_s) * US_PER_S).astype(np.int64)
        if taken_us.min() < FIRST_US or taken_us.max() > LAST_US:
            raise NotImportable("a frame's time is outside the years 1 to 9999", field="timestamp")
        return taken_us

    def _ages(self, batch: pa.RecordBatch) -> pa.Array:
        """Of frames that repeat an earlier observation."""
        if OBSERVATION_AGE not in self._about.own:
            return pa.nulls(batch.num_rows, pa.int64())
        age_ms = plain_numbers(batch, OBSERVATION_AGE).astype(np.float64)
        if not np.isfinite(age_ms).all() or age_ms.max() > LAST_US / US_PER_MS:
            raise NotImportable(f"{OBSERVATION_AGE} is not an age", field=OBSERVATION_AGE)
        age_us = np.rint(age_ms * US_PER_MS).astype(np.int64)
        return pa.array(age_us, mask=age_us <= 0)

    def _note(
        self,
        rows: npt.NDArray[np.int64],
        episode: npt.NDArray[np.int64],
        tasks: npt.NDArray[np.int64],
        values: list[pa.Array],
    ) -> None:
        """Note tasks and bytes of these rows for their episodes."""
        cuts = [0, *(np.flatnonzero(np.diff(episode)) + 1).tolist(), len(rows)]
        for low, high in pairwise(cuts):
            number = int(episode[low])
            known = self._tasks[number]
            changes = [low, *(low + 1 + np.flatnonzero(np.diff(tasks[low:high]))).tolist()]
            for at in changes:
                task = self._about.tasks[int(tasks[at])]
                if not known or known[-1][1] != task:
                    known.append((int(rows[at]), task))
            # Each column by itself: where one batch ends and the next begins makes no difference.
            for running, each in zip(self._running, values, strict=True):
                width = len(each) // len(rows)
                running.update(_bytes_of(each.slice(low * width, (high - low) * width)))
            if int(rows[high - 1]) + 1 == self._ends[number]:
                # By frame within the episode, which does not move if others come before it.
                first = int(self._ends[number]) - self._about.lengths[number]
                told = repr([(at - first, task) for at, task in known])
                whole = hashlib.sha256(told.encode() + b"".join(each.digest() for each in self._running))
                self._digests.append(whole.hexdigest())
                self._running = self._begun()

    def _begun(self) -> list["hashlib._Hash"]:
        """A hash for the values of state, of action, and of each column."""
        return [hashlib.sha256() for _ in range(2 + len(self._about.columns))]


def _bytes_of(values: pa.Array) -> bytes:
    if pa.types.is_string(values.type):
        return b"".join(len(text).to_bytes(8) + text for text in values.cast(pa.binary()).to_pylist())
    numbers: npt.NDArray[np.generic] = values.to_numpy(zero_copy_only=False)
    return numbers.tobytes()


def _lists(values: pa.Array, rows: int) -> pa.Array:
    width = len(values) // rows
    offsets = np.arange(0, rows * width + 1, width, dtype=np.int32) if width else np.zeros(rows + 1, np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _shaped(values: pa.Array, column: Column) -> pa.Array:
    """One plain value or one list per frame."""
    return values if column.shape == (1,) else pa.FixedSizeListArray.from_arrays(values, column.values)
