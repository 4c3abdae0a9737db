"""What the joints of an episode tell: stuck, at a limit, idle, offset, or not a number. Pure."""

from collections.abc import Iterator

import numpy as np

from teleop_telemetry.suspicion.history import History
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.recording import (
    SIGMA_PER_MAD,
    Booleans,
    Floats,
    Recording,
    runs,
)

# Shares of a joint's range.
# A joint that is sent this far and reports no difference does not move.
FROZEN_WAY = 0.1
# This close to the end of its range, a joint is at it; and sent this much further, it can't follow.
AT_LIMIT, BEYOND_LIMIT = 0.01, 0.05
# A joint whose state has less of a range than this share of its action's has no end that is known.
KNOWN_RANGE = 0.2
# Moved, and not only trembled; or standing still, while it lasts.
MOVED, STILL = 0.02, 0.01
# Times the noise of its readings that a joint has to move to have moved.
NOISE = 6.0
# Standing still is judged in windows of this length, each beginning half a window after the one before.
STILL_S = 0.5
FEWEST_STILL_WINDOWS = 4
# Share of the still windows in which the joint is at least that far from its action.
OFFSET_SHARE = 90.0
# Stretches of equal values that are shorter are not looked at.
SHORTEST_S = 0.2
# Frames that tell where a joint begins or ends.
EDGE_FRAMES = 5


def measure_motion(recording: Recording, history: History) -> Iterator[Measurement]:
    """Values that are not finite, frozen and saturated joints, offsets, and idle ends."""
    yield from _not_finite(recording)
    low, high = history.limits(recording)
    span = high - low
    for state, action in recording.pairs:
        way = float(max(span[state], span[action]))
        if way > 0:
            yield from _of_joint(recording, state, action, float(low[state]), float(high[state]), way)
    yield from _idle(recording, span)


def _not_finite(recording: Recording) -> Iterator[Measurement]:
    bad = ~recording.finite
    for place in np.flatnonzero(bad.any(axis=0)):
        first, end = runs(bad[:, place])[0]
        count = float(np.count_nonzero(bad[:, place]))
        yield Measurement("not_finite", count, *recording.moment(first, end), joint=recording.names[place])


def _of_joint(
    recording: Recording, state: int, action: int, low: float, high: float, way: float
) -> Iterator[Measurement]:
    """Frozen, saturated and offset, of a joint that has both a state and an action; `way` is its range."""
    name = recording.names[state]
    at, wanted = recording.signals[:, state], recording.signals[:, action]
    known = high - low >= KNOWN_RANGE * way
    at_low, at_high = at <= low + AT_LIMIT * way, at >= high - AT_LIMIT * way
    found = _offsets(recording, at, wanted, way, at_low | at_high if known else np.zeros(len(at), bool))
    offset = 0.0
    if found is not None:
        offset, first, end = found
        yield Measurement("leader_offset", 100 * abs(offset) / way, *recording.moment(first, end), joint=name)
    beyond = wanted - offset - at
    stuck = (at_high & (beyond > BEYOND_LIMIT * way)) | (at_low & (beyond < -BEYOND_LIMIT * way))
    if known and stuck.any():
        held_s, first, end = max((recording.seconds(*run), *run) for run in runs(stuck))
        yield Measurement("saturated", held_s, *recording.moment(first, end), joint=name)
    yield from _frozen(recording, state, wanted, way, stuck if known else np.zeros(len(at), bool))


def _frozen(
    recording: Recording, state: int, wanted: Floats, way: float, stuck: Booleans
) -> Iterator[Measurement]:
    """The longest stretch of one and the same value that its action leaves; not where it is at a limit."""
    at, finite = recording.signals[:, state], recording.finite[:, state]
    equal = (np.diff(at) == 0) & finite[1:] & finite[:-1] & recording.joined
    worst: tuple[float, int, int] | None = None
    for first, last in runs(equal):
        end = last + 1
        held_s = recording.seconds(first, end)
        if held_s < SHORTEST_S or (worst is not None and held_s <= worst[0]):
            continue
        asked = wanted[first:end]
        if np.ptp(asked) >= FROZEN_WAY * way and stuck[first:end].mean() < 0.5:
            worst = held_s, first, end
    if worst is not None:
        held_s, first, end = worst
        yield Measurement("frozen_joint", held_s, *recording.moment(first, end), joint=recording.names[state])


def _offsets(
    recording: Recording, at: Floats, wanted: Floats, way: float, at_limit: Booleans
) -> tuple[float, int, int] | None:
    """What the joint keeps from its action on still frames away from its limits, signed; with the rows of the
    first and the last of these. None: it does not stand still for long enough."""
    size = max(2, round(STILL_S / recording.period_s))
    starts = np.arange(0, len(at) - size + 1, max(1, size // 2))
    if len(starts) < FEWEST_STILL_WINDOWS:
        return None
    windows = starts[:, None] + np.arange(size)
    still = (np.ptp(at[windows], axis=1) <= STILL * way) & (np.ptp(wanted[windows], axis=1) <= STILL * way)
    still &= ~at_limit[windows].any(axis=1)
    if np.count_nonzero(still) < FEWEST_STILL_WINDOWS:
        return None
    apart = np.median((wanted - at)[windows[still]], axis=1)
    near, far = np.percentile(apart, [100 - OFFSET_SHARE, OFFSET_SHARE])
    offset = float(near if near > 0 else far if far < 0 else 0.0)
    first, last = starts[still][[0, -1]]
    return offset, int(first), int(last) + size


def _idle(recording: Recording, span: Floats) -> Iterator[Measurement]:
    """How long nothing moves at the beginning, and at the end."""
    width = len(recording.state_names) or len(recording.names)
    signals = recording.signals[:, :width]
    frames = len(signals)
    if frames < 2 * EDGE_FRAMES or not width:
        return
    least = np.maximum(MOVED * span[:width], _trembling(recording, signals))
    moved = (np.abs(signals - np.median(signals[:EDGE_FRAMES], axis=0)) > least).any(axis=1)
    first = int(np.argmax(moved)) if moved.any() else frames
    yield Measurement("idle_start", recording.seconds(0, first), *recording.moment(0, max(first, 1)))
    moved = (np.abs(signals - np.median(signals[-EDGE_FRAMES:], axis=0)) > least).any(axis=1)
    stopped = int(np.flatnonzero(moved)[-1]) + 1 if moved.any() else 0
    at = min(stopped, frames - 1)
    yield Measurement("idle_end", recording.seconds(stopped, frames), *recording.moment(at, frames))


def _trembling(recording: Recording, signals: Floats) -> Floats:
    """(width,) what each signal changes by while it stands still: its noise, or the step of its sensor."""
    fourth = np.abs(np.diff(signals, n=4, axis=0))
    # The fourth difference has nearly nothing of a movement, and 70 times the variance of noise.
    noise = NOISE * SIGMA_PER_MAD * np.median(fourth, axis=0) / np.sqrt(70)
    first = np.abs(np.diff(signals, axis=0))
    quantum = np.where(first > 0, first, np.inf).min(axis=0)
    trembling: Floats = np.maximum(noise, np.where(np.isfinite(quantum), 1.5 * quantum, 0.0))
    return trembling
