"""Consecutive frames of one stream, in columns as they came over the wire; pure.

Values stay bytes from the wire to the commit, where the columns of all robots are joined and checked at once.
A thousand robots send ten thousand small batches a second, and even a few array operations on each would cost
more than everything else.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from teleop_schema.columns import Column, unknown_columns
from teleop_schema.errors import BadMessage
from teleop_schema.messages import Batch, Event
from teleop_schema.words import counted

TIMESTAMP_BYTES = 8
VALUE_BYTES = 4
# Of one frame; a record in the spool has as much space.
MAX_EXTRA_BYTES = 64 * 1024
# A limit, because PostgreSQL and readers recurse over it.
MAX_EXTRA_DEPTH = 64
# Memory of a block's Python objects in addition to its bytes; for a block of one frame, that is most of it.
OVERHEAD_BYTES = 512
# \u0000 that is not itself the end of an escaped backslash.
NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Gap(Struct, frozen=True, gc=False):
    """Frames `first` to `end - 1` are missing, and why."""

    first: int
    end: int
    reason: str


class Run(Struct, frozen=True, gc=False):
    """Consecutive frames, `first` to `first + count - 1`, count >= 1.

    timestamps  (count,) int64 little-endian, us since the Unix epoch
    state       (count, S) float32 little-endian
    action      (count, A) float32 little-endian
    untold      they came without a time, and have that of their arrival
    """

    first: int
    count: int
    timestamps: bytes
    state: bytes
    action: bytes
    untold: bool = False

    @property
    def end(self) -> int:
        return self.first + self.count

    def between(self, first: int, end: int) -> "Run | None":
        """The part within `first` to `end - 1`, None if there is none."""
        first, end = max(first, self.first), min(end, self.end)
        # Nearly always: nothing is copied then.
        if (first, end) == (self.first, self.end):
            return self
        if first >= end:
            return None
        return Run(
            first,
            end - first,
            self._rows(self.timestamps, first, end),
            self._rows(self.state, first, end),
            self._rows(self.action, first, end),
            self.untold,
        )

    def _rows(self, column: bytes, first: int, end: int) -> bytes:
        width = len(column) // self.count
        return column[(first - self.first) * width : (end - self.first) * width]


class FrameExtras(Struct, frozen=True, gc=False):
    """The data of one frame beyond its vectors.

    extra               JSON text; None: nothing
    observation_age_us  age of the observation if it repeats an earlier frame's; None: it is the frame's own
    columns             packed values of the session's columns; None: it has none
    """

    extra: str | None = None
    observation_age_us: int | None = None
    columns: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.extra or "") + len(self.columns or b"")


NOTHING_BEYOND = FrameExtras()
# The fields of a batch that are about single frames, by their offsets.
BEYOND = ("extra", "observation_ages_us", "columns")
NO_COLUMNS: Mapping[int, Column] = {}


class FrameBlock(Struct, frozen=True, gc=False):
    """Frames `first` to `end - 1` of one stream, each of them in a run or in a gap.

    beyond  frame index -> data beyond the vectors, for frames that have any
    events  what happened in the stream up to these frames
    """

    first: int
    end: int
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...] = ()
    beyond: dict[int, FrameExtras] = {}
    events: tuple[Event, ...] = ()

    @property
    def started_us(self) -> int:
        """The time of the first frame of all that are not missing, us since the Unix epoch."""
        return int.from_bytes(self.runs[0].timestamps[:TIMESTAMP_BYTES], "little", signed=True)

    @property
    def rows(self) -> int:
        """Frames that are not missing."""
        rows = 0
        for run in self.runs:
            rows += run.count
        return rows

    @property
    def untold_times(self) -> int:
        """Frames that came without a time."""
        return sum(run.count for run in self.runs if run.untold)

    @property
    def size_bytes(self) -> int:
        """Its approximate memory, for limits."""
        size = OVERHEAD_BYTES
        for run in self.runs:
            size += len(run.timestamps) + len(run.state) + len(run.action)
        for beyond in self.beyond.values():
            size += beyond.size_bytes
        return size

    def between(self, first: int, end: int) -> "FrameBlock":
        """The frames `first` to `end - 1` of the block.

        All events stay, because storing them twice is harmless.
        """
        runs = (run.between(first, end) for run in self.runs)
        gaps = (Gap(max(gap.first, first), min(gap.end, end), gap.reason) for gap in self.gaps)
        return FrameBlock(
            first=max(first, self.first),
            end=min(end, self.end),
            runs=tuple(run for run in runs if run is not None),
            gaps=tuple(gap for gap in gaps if gap.first < gap.end),
            beyond={index: beyond for index, beyond in self.beyond.items() if first <= index < end},
            events=self.events,
        )

    def without(self, reasons: Mapping[int, str]) -> "FrameBlock":
        """The block with some frames turned into gaps; `reasons` says which and why."""
        gaps: list[Gap] = []
        for index, reason in sorted(reasons.items()):
            if gaps and (gaps[-1].end, gaps[-1].reason) == (index, reason):
                gaps[-1] = Gap(gaps[-1].first, index + 1, reason)
            else:
                gaps.append(Gap(index, index + 1, reason))
        edges = [self.first, *(edge for gap in gaps for edge in (gap.first, gap.end)), self.end]
        kept = [(first, end) for first, end in zip(edges[::2], edges[1::2], strict=True) if first < end]
        parts = (run.between(first, end) for run in self.runs for first, end in kept)
        return FrameBlock(
            first=self.first,
            end=self.end,
            runs=tuple(part for part in parts if part is not None),
            gaps=(*self.gaps, *gaps),
            beyond={index: beyond for index, beyond in self.beyond.items() if index not in reasons},
            events=self.events,
        )


def block_of_batch(
    batch: Batch, state_width: int, action_width: int, columns: Mapping[int, Column] = NO_COLUMNS
) -> FrameBlock:
    """The batch's frames; raises BadMessage naming the field whose length or content does not fit.

    columns  declared before these frames, by position; if a frame has others too, its values can't be read,
             and its extra says so
    """
    count, first = batch.count, batch.first
    if batch.gap is not None:
        return _block_of_gap(batch)
    for name, sent, expected in (
        ("timestamps", len(batch.timestamps), TIMESTAMP_BYTES * count),
        ("state", len(batch.state), VALUE_BYTES * count * state_width),
        ("action", len(batch.action), VALUE_BYTES * count * action_width),
    ):
        if sent != expected:
            told = f"{counted(sent, 'byte')} instead of {expected} for {counted(count, 'frame')}"
            raise BadMessage(f"{name} holds {told}", field=name)
    return FrameBlock(
        first=first,
        end=first + count,
        runs=(Run(first, count, batch.timestamps, batch.state, batch.action),),
        beyond=_beyond(batch, columns) if batch.extra or batch.observation_ages_us or batch.columns else {},
        events=batch.events,
    )


def merge_blocks(blocks: Sequence[FrameBlock]) -> FrameBlock:
    """Joins blocks that follow each other into one."""
    # Nearly always, at the usual rates.
    if len(blocks) == 1:
        return blocks[0]
    return FrameBlock(
        first=blocks[0].first,
        end=blocks[-1].end,
        runs=tuple(run for block in blocks for run in block.runs),
        gaps=tuple(gap for block in blocks for gap in block.gaps),
        beyond={index: beyond for block in blocks for index, beyond in block.beyond.items()},
        events=tuple(event for block in blocks for event in block.events),
    )


def extra_text(content: dict[str, Any], name: str) -> str:
    """JSON text that PostgreSQL's jsonb accepts; raises BadMessage naming the field."""
    if _is_deeper(content, MAX_EXTRA_DEPTH):
        raise BadMessage(f"{name} is nested too deeply", field=name, limit=MAX_EXTRA_DEPTH)
    try:
        text = msgspec.json.encode(content)
    except (TypeError, ValueError) as error:
        raise BadMessage(f"{name} can't be written as JSON: {error}", field=name) from error
    if len(text) > MAX_EXTRA_BYTES:
        raise BadMessage(
            f"{name} has {len(text)} bytes of JSON, the limit is {MAX_EXTRA_BYTES}",
            field=name,
            limit=MAX_EXTRA_BYTES,
        )
    # JSON may have it, PostgreSQL's jsonb refuses it, and would refuse the commit of all robots.
    if NUL_ESCAPE.search(text):
        raise BadMessage(f"{name} holds a NUL character", field=name)
    return text.decode()


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(levels == 0 or _is_deeper(part, levels - 1) for part in inner)


def _block_of_gap(batch: Batch) -> FrameBlock:
    for name in ("timestamps", "state", "action", *BEYOND):
        if getattr(batch, name):
            raise BadMessage(f"a gap must not have {name}", field=name)
    gap = Gap(batch.first, batch.end, str(batch.gap))
    return FrameBlock(first=batch.first, end=batch.end, runs=(), gaps=(gap,), events=batch.events)


def _beyond(batch: Batch, columns: Mapping[int, Column]) -> dict[int, FrameExtras]:
    """By frame index; raises BadMessage naming the field."""
    for name in BEYOND:
        # An index beyond the batch would name another frame, of a later batch.
        for offset in getattr(batch, name):
            if not 0 <= offset < batch.count:
                raise BadMessage(f"{name} speaks of frame {offset} of {batch.count}", field=name)
    offsets = batch.extra.keys() | batch.observation_ages_us.keys() | batch.columns.keys()
    return {batch.first + offset: _beyond_of(batch, offset, columns) for offset in offsets}


def _beyond_of(batch: Batch, offset: int, columns: Mapping[int, Column]) -> FrameExtras:
    packed, extra = batch.columns.get(offset), batch.extra.get(offset, {})
    if packed is not None:
        unknown = unknown_columns(packed, columns, f"columns[{offset}]")
        if unknown:
            # The spool was damaged where it declared them; this must not hold up the frame.
            packed, extra = None, extra | {"columns_lost": f"columns {unknown} were never described"}
    return FrameExtras(
        extra=extra_text(extra, f"extra[{offset}]") if extra or offset in batch.extra else None,
        observation_age_us=batch.observation_ages_us.get(offset),
        columns=packed,
    )
