"""Consecutive frames of one stream, checked and held in columns; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from teleop_schema.errors import BadMessage
from teleop_schema.messages import Batch, Event

MIN_TIMESTAMP_US = -62_135_596_800_000_000  # year 1
MAX_TIMESTAMP_US = 253_402_300_799_999_999  # year 9999
MAX_EXTRA_BYTES = 64 * 1024


@dataclass(frozen=True)
class Gap:
    """Frames `first` to `end - 1` are missing, and why."""

    first: int
    end: int
    reason: str


@dataclass(frozen=True)
class FrameBlock:
    """Frames of one stream, `first` to `end - 1`, each of them a row or inside a gap.

    frame_index  (N,) int64, ascending; N < end - first where there are gaps
    timestamps   (N,) int64, us since the Unix epoch
    state        (N, S) float32
    action       (N, A) float32
    extra        frame index -> JSON text
    """

    first: int
    end: int
    frame_index: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    extra: dict[int, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Memory the columns hold, for limits."""
        return self.state.nbytes + self.action.nbytes + 16 * len(self.frame_index) + 256

    def starting_at(self, first: int) -> "FrameBlock":
        """The part from frame index `first` on; all events stay, for storing them twice is harmless."""
        gaps = tuple(Gap(max(gap.first, first), gap.end, gap.reason) for gap in self.gaps if gap.end > first)
        return replace(self._keeping(self.frame_index >= first), first=first, gaps=gaps)

    def ending_at(self, end: int) -> "FrameBlock":
        """The part of the block before frame index `end`, with all its events."""
        gaps = tuple(Gap(gap.first, min(gap.end, end), gap.reason) for gap in self.gaps if gap.first < end)
        return replace(self._keeping(self.frame_index < end), end=end, gaps=gaps)

    def without(self, index: int, reason: str) -> "FrameBlock":
        """The block with one frame turned into a named gap."""
        kept = self._keeping(self.frame_index != index)
        return replace(kept, gaps=(*self.gaps, Gap(index, index + 1, reason)))

    def _keeping(self, keep: NDArray[np.bool_]) -> "FrameBlock":
        kept = set(self.frame_index[keep].tolist()) if self.extra else set()
        return replace(
            self,
            frame_index=self.frame_index[keep],
            timestamps=self.timestamps[keep],
            state=self.state[keep],
            action=self.action[keep],
            extra={index: text for index, text in self.extra.items() if index in kept},
        )


def block_of_batch(batch: Batch, state_width: int, action_width: int) -> FrameBlock:
    """The batch's frames; one that holds a value that is not finite becomes a named gap.

    Raises BadMessage naming the field whose length or content does not fit.
    """
    if batch.gap is not None:
        return _block_of_gap(batch, state_width, action_width)
    for name, sent, expected in (
        ("timestamps", len(batch.timestamps), 8 * batch.count),
        ("state", len(batch.state), 4 * batch.count * state_width),
        ("action", len(batch.action), 4 * batch.count * action_width),
    ):
        if sent != expected:
            raise BadMessage(f"{name} holds {sent} bytes, {batch.count} frames need {expected}", field=name)
    timestamps = np.frombuffer(batch.timestamps, "<i8")
    if timestamps.min() < MIN_TIMESTAMP_US or timestamps.max() > MAX_TIMESTAMP_US:
        raise BadMessage("a timestamp lies outside of the years 1 to 9999", field="timestamps")
    block = FrameBlock(
        first=batch.first,
        end=batch.end,
        frame_index=np.arange(batch.first, batch.end, dtype=np.int64),
        timestamps=timestamps,
        state=np.frombuffer(batch.state, "<f4").reshape(batch.count, state_width),
        action=np.frombuffer(batch.action, "<f4").reshape(batch.count, action_width),
        extra=_extra_texts(batch),
        events=batch.events,
    )
    return _quarantine_infinite(block)


def merge_blocks(blocks: Sequence[FrameBlock]) -> FrameBlock:
    """One block of blocks that follow each other without a hole."""
    if len(blocks) == 1:
        return blocks[0]
    return FrameBlock(
        first=blocks[0].first,
        end=blocks[-1].end,
        frame_index=np.concatenate([block.frame_index for block in blocks]),
        timestamps=np.concatenate([block.timestamps for block in blocks]),
        state=np.concatenate([block.state for block in blocks]),
        action=np.concatenate([block.action for block in blocks]),
        extra={index: text for block in blocks for index, text in block.extra.items()},
        events=tuple(event for block in blocks for event in block.events),
        gaps=tuple(gap for block in blocks for gap in block.gaps),
    )


def extra_text(content: dict[str, Any], name: str) -> str:
    """JSON text that PostgreSQL's jsonb takes; raises BadMessage naming the field."""
    text = msgspec.json.encode(content)
    if len(text) > MAX_EXTRA_BYTES:
        raise BadMessage(
            f"{name} holds {len(text)} bytes of JSON, at most {MAX_EXTRA_BYTES} are taken",
            field=name,
            limit=MAX_EXTRA_BYTES,
        )
    if b"\\u0000" in text:
        raise BadMessage(f"{name} holds a NUL character", field=name)
    return text.decode()


def _block_of_gap(batch: Batch, state_width: int, action_width: int) -> FrameBlock:
    for name in ("timestamps", "state", "action", "extra"):
        if getattr(batch, name):
            raise BadMessage(f"a gap carries no {name}", field=name)
    return FrameBlock(
        first=batch.first,
        end=batch.end,
        frame_index=np.empty(0, np.int64),
        timestamps=np.empty(0, np.int64),
        state=np.empty((0, state_width), np.float32),
        action=np.empty((0, action_width), np.float32),
        events=batch.events,
        gaps=(Gap(batch.first, batch.end, str(batch.gap)),),
    )


def _extra_texts(batch: Batch) -> dict[int, str]:
    texts = {}
    for offset, content in batch.extra.items():
        if not 0 <= offset < batch.count:
            raise BadMessage(f"extra speaks of frame {offset} of {batch.count}", field="extra")
        texts[batch.first + offset] = extra_text(content, f"extra[{offset}]")
    return texts


def _quarantine_infinite(block: FrameBlock) -> FrameBlock:
    if np.isfinite(block.state).all() and np.isfinite(block.action).all():
        return block
    culprits: dict[int, str] = {}
    for name, values in (("state", block.state), ("action", block.action)):
        for row, column in zip(*np.nonzero(~np.isfinite(values)), strict=True):
            culprits.setdefault(block.first + int(row), f"{name}[{column}] is not a finite number")
    for index, reason in culprits.items():
        block = block.without(index, reason)
    return block
