"""What one connection may send next, and what it means; no I/O.

Acknowledged mode: the robot numbers its frames, the session knows which one comes next. Plain mode: frames
are numbered as they arrive, and the first one sets the names.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from teleop_schema.columns import Column, check_told
from teleop_schema.messages import Batch
from teleop_schema.plain import FRAMES_AT_ONCE, PlainFrame, Value

from teleop_telemetry.frames.block import (
    FrameBlock,
    FrameExtras,
    Run,
    block_of_batch,
    extra_text,
    merge_blocks,
)

US_PER_S = 1_000_000


@dataclass(frozen=True)
class StoreFrames:
    """Commit these frames."""

    block: FrameBlock


@dataclass(frozen=True)
class Rewind:
    """Tell the robot to send again from `expected` on."""

    expected: int


@dataclass(frozen=True)
class Known:
    """Every frame of the batch has been taken before."""


class AcknowledgedSession:
    """Order of one stream: each batch is stored, sliced, sent back or known already.

    next     the frame index that comes next on this connection
    columns  columns declared so far
    """

    def __init__(
        self, *, next_frame: int, state_width: int, action_width: int, columns: Sequence[Column] = ()
    ) -> None:
        self.next = next_frame
        self.state_width = state_width
        self.action_width = action_width
        self.columns = {column.position: column for column in columns}
        # One nack per missing batch: batches after it are dropped silently until the robot rewinds.
        self._awaiting_rewind = False

    def receive(self, batch: Batch) -> StoreFrames | Rewind | Known:
        """What to do with a batch; raises BadMessage naming the field."""
        for number, event in enumerate(batch.events):
            if event.column is not None:
                check_told(event.column, self.columns, f"events[{number}].column")
                self.columns[event.column.position] = event.column
        block = block_of_batch(batch, self.state_width, self.action_width, self.columns)
        if batch.first > self.next:
            if self._awaiting_rewind:
                return Known()
            self._awaiting_rewind = True
            return Rewind(self.next)
        self._awaiting_rewind = False
        if batch.end <= self.next:
            return Known()
        # It overlaps what is stored: robots batch again after a reconnect, so batches do not line up.
        if batch.first < self.next:
            block = block.between(self.next, block.end)
        self.next = batch.end
        return StoreFrames(block)


class PlainSession:
    """Gives numbers and columns to frames that come as names and values.

    fps  the rate that was declared for them
    """

    def __init__(self, first_frame: PlainFrame, *, fps: float) -> None:
        self.state_names = tuple(first_frame.observation)
        self.action_names = tuple(first_frame.action)
        self.next = 0
        self._period_us = round(US_PER_S / fps)
        self._arrived_us: int | None = None
        self._known = {
            "observation": frozenset(first_frame.observation),
            "action": frozenset(first_frame.action),
        }

    def receive(self, frames: Sequence[PlainFrame], arrived_us: int) -> Generator[float, None, FrameBlock]:
        """Frames as a block, which is returned; NaN stands for what a frame lacks.

        Works in steps of FRAMES_AT_ONCE, and yields which part of the work each step was. If a step raises,
        no frame is taken.
        """
        times = [
            taken_us if frame.timestamp is None else round(frame.timestamp * US_PER_S)
            for frame, taken_us in zip(frames, self._taken_us(len(frames), arrived_us), strict=True)
        ]
        blocks = []
        for begin in range(0, len(frames), FRAMES_AT_ONCE):
            some = slice(begin, begin + FRAMES_AT_ONCE)
            blocks.append(self._block(self.next + begin, frames[some], times[some]))
            yield len(frames[some]) / len(frames)
        block = merge_blocks(blocks)
        self.next = block.end
        return block

    def _block(self, first: int, frames: Sequence[PlainFrame], times_us: Sequence[int]) -> FrameBlock:
        beyond = {
            first + number: FrameExtras(
                extra=extra_text(strangers, "extra") if strangers else None,
                observation_age_us=frame.observation_age_us or None,
            )
            for number, frame in enumerate(frames)
            if (strangers := self._strangers(frame)) or frame.observation_age_us
        }
        runs: list[Run] = []
        for untold, timed in groupby(zip(frames, times_us, strict=True), key=_comes_without_time):
            begin = runs[-1].end if runs else first
            runs.append(self._run(begin, *zip(*timed, strict=True), untold=untold))
        return FrameBlock(first=first, end=first + len(frames), runs=tuple(runs), beyond=beyond)

    def _run(self, first: int, frames: Sequence[PlainFrame], times_us: Sequence[int], *, untold: bool) -> Run:
        state = [[frame.observation.get(name) for name in self.state_names] for frame in frames]
        action = [[frame.action.get(name) for name in self.action_names] for frame in frames]
        timestamps = np.array(times_us, "<i8").tobytes()
        return Run(first, len(frames), timestamps, _float32(state), _float32(action), untold)

    def _taken_us(self, frames: int, arrived_us: int) -> list[int]:
        """Capture times for the frames of a message without times: the last when it arrived, the others
        spread evenly since the message before, at most one declared period apart."""
        # A clock that was set back gives a negative time.
        since = None if self._arrived_us is None else max(0, arrived_us - self._arrived_us)
        step_us = self._period_us if since is None else min(self._period_us, since // frames)
        self._arrived_us = arrived_us
        return [arrived_us - step_us * later for later in reversed(range(frames))]

    def _strangers(self, frame: PlainFrame) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part, values in (("observation", frame.observation), ("action", frame.action)):
            known = self._known[part]
            if not values.keys() <= known:
                found[part] = {name: value for name, value in values.items() if name not in known}
        return found


def _comes_without_time(timed: tuple[PlainFrame, int]) -> bool:
    return timed[0].timestamp is None


def _float32(rows: Sequence[Sequence[Value]]) -> bytes:
    """float32 values as in numpy, and so in LeRobot: None is NaN, a value that is too large is infinite."""
    with np.errstate(over="ignore"):
        return np.array(rows, "<f4").tobytes()
