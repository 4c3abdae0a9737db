"""Recordings of an arm that a person teaches, made up from a seed: clean, or with one known fault."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
NAMES = tuple(f"{joint}.pos" for joint in JOINTS)
FPS = 30.0
# Of each joint: degrees, for the gripper 0 to 100.
REACH = np.array([110.0, 90.0, 95.0, 80.0, 100.0, 90.0])
ENCODER_STEP = 360 / 4096
NOISE = 0.05
# Where every joint begins and ends; it goes at most half of its reach to either side, where its range ends.
HOME = np.array([0.0, -30.0, 30.0, 10.0, 0.0, 20.0])
# Of a movement.
QUICKEST_S, SLOWEST_S = 0.7, 1.4
# Degrees per frame of the fastest movement there is: minimum jerk, over all of the reach.
FASTEST = 1.875 * REACH / QUICKEST_S / FPS
# Share of the way that the follower covers from frame to frame.
FOLLOW = 0.64
USUAL_S, SPREAD_S = 12.0, 0.05
START_US = 1_763_860_000_000_000

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One recording.

    index    (N,) frame indexes
    time_us  (N,) capture times
    state    (N, 6), action (N, 6)
    age_us   (N,) age of the observation
    joint    place of the joint that has a fault
    fault    rows of the fault, the first and one past the last
    """

    index: NDArray[np.int64]
    time_us: NDArray[np.int64]
    state: Floats
    action: Floats
    age_us: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    joint: int | None = None
    fault: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not len(self.age_us):
            object.__setattr__(self, "age_us", np.zeros(len(self.index), np.int64))


def clean(
    rng: np.random.Generator,
    *,
    seconds: float | None = None,
    end_off: Mapping[int, float] | None = None,
    still_s: tuple[float, float] = (0.0, 0.0),
) -> Arm:
    """A recording as it should be: movements between poses that a person chose, with holds, then home.

    seconds  its length; by default, that of its task
    end_off  joint -> how far from the usual it ends, degrees
    still_s  time of standing still that is added at the beginning and at the end
    """
    length_s = seconds or USUAL_S * float(np.exp(rng.normal(0, SPREAD_S)))
    frames = max(40, round(length_s * FPS))
    end = HOME + rng.normal(0, 0.01, 6) * REACH
    for joint, off in (end_off or {}).items():
        end[joint] = HOME[joint] + off
    action = np.concatenate(
        [
            np.repeat(HOME[None], round(still_s[0] * FPS), axis=0),
            _moves(rng, HOME, end, frames),
            np.repeat(end[None], round(still_s[1] * FPS), axis=0),
        ]
    )
    state = np.empty_like(action)
    at = action[0]
    for row, wanted in enumerate(action):
        state[row] = at = at + FOLLOW * (wanted - at)
    return Arm(
        index=np.arange(len(action)),
        time_us=START_US + _times_us(rng, len(action)),
        state=_read(rng, state),
        action=_read(rng, action),
    )


def _moves(rng: np.random.Generator, start: Floats, end: Floats, frames: int) -> Floats:
    """(frames, 6) minimum-jerk movements of 0.7 to 1.4 s, with holds of up to 0.9 s, that finish at `end`."""
    rows, at = [], start
    left = frames
    while left > round(3 * FPS):
        # No way is so short that it is mistaken for standing still.
        goal = start + np.where(rng.random(6) < 0.5, -1, 1) * rng.uniform(0.25, 0.5, 6) * REACH
        rows.append(_move(at, goal, round(rng.uniform(QUICKEST_S, SLOWEST_S) * FPS)))
        rows.append(np.repeat(goal[None], round(rng.uniform(0.0, 0.9) * FPS), axis=0))
        at, left = goal, left - len(rows[-2]) - len(rows[-1])
    rows.append(_move(at, end, max(left - round(0.8 * FPS), round(QUICKEST_S * FPS))))
    path = np.concatenate(rows)
    return np.concatenate([path, np.repeat(end[None], max(frames - len(path), 0), axis=0)])[:frames]


def _move(start: Floats, goal: Floats, frames: int) -> Floats:
    share = np.linspace(0, 1, frames)[:, None]
    path: Floats = start + (goal - start) * (10 * share**3 - 15 * share**4 + 6 * share**5)
    return path


def _times_us(rng: np.random.Generator, frames: int) -> NDArray[np.int64]:
    steps = 1 + np.clip(rng.normal(0, 0.03, frames), -0.2, 0.2)
    steps[rng.random(frames) < 0.002] = 1.6
    return np.rint(np.cumsum(steps) / FPS * 1e6).astype(np.int64)


def _read(rng: np.random.Generator, values: Floats) -> Floats:
    """As a sensor reads them."""
    return np.rint((values + rng.normal(0, NOISE, values.shape)) / ENCODER_STEP) * ENCODER_STEP


def _row(rng: np.random.Generator, arm: Arm, room: int) -> int:
    return int(rng.integers(20, len(arm.index) - room - 20))


def dropped(rng: np.random.Generator, percent: float) -> Arm:
    """So many of its frames are missing, here and there."""
    arm = clean(rng)
    frames = len(arm.index)
    gone = rng.choice(np.arange(5, frames - 5, 2), int(percent / 100 * frames), replace=False)
    kept = np.setdiff1d(np.arange(frames), gone)
    return Arm(arm.index[kept], arm.time_us[kept], arm.state[kept], arm.action[kept])


def off_rate(rng: np.random.Generator, percent: float) -> Arm:
    """Its loop was slower, or faster, than declared."""
    arm = clean(rng)
    pace = 1 + percent / 100
    passed = arm.time_us - arm.time_us[0]
    return replace(
        arm, time_us=START_US + (passed / pace if rng.random() < 0.5 else passed * pace).astype(int)
    )


def stalled(rng: np.random.Generator, seconds: float) -> Arm:
    """Between two of its frames, the loop stood still, and so did the arm."""
    arm = clean(rng)
    row = _row(rng, arm, 0)
    later_us = np.where(np.arange(len(arm.index)) > row, int(seconds * 1e6), 0)
    return replace(arm, time_us=arm.time_us + later_us, fault=(row, row + 2))


def late(rng: np.random.Generator, ms: float) -> Arm:
    """Actions that answer an old observation, for a while."""
    arm = clean(rng)
    many = max(2, round(ms / 1000 * FPS))
    row = _row(rng, arm, many)
    age = np.zeros(len(arm.index), np.int64)
    age[row : row + many] = np.linspace(ms / many, ms, many) * 1000
    return replace(arm, age_us=age, fault=(row, row + many))


def broken_values(rng: np.random.Generator, values: float) -> Arm:
    """So many values of a joint are not numbers."""
    arm, joint = clean(rng), int(rng.integers(6))
    state = arm.state.copy()
    row = _row(rng, arm, int(values))
    state[row : row + int(values), joint] = rng.choice([np.nan, np.inf, -np.inf])
    return replace(arm, state=state, joint=joint, fault=(row, row + int(values)))


def frozen(rng: np.random.Generator, seconds: float) -> Arm:
    """A joint reports the same value for so long, while its action goes on."""
    many = round(seconds * FPS)
    while True:
        arm, joint = clean(rng), int(rng.integers(6))
        row = _row(rng, arm, many)
        state = arm.state.copy()
        state[row : row + many, joint] = state[row, joint]
        asked = arm.action[row : row + many, joint]
        # Otherwise the fault does not show.
        if np.ptp(asked) > 0.3 * REACH[joint] and asked.min() < state[row, joint] < asked.max():
            return replace(arm, state=state, joint=joint, fault=(row, row + many))


def at_limit(rng: np.random.Generator, seconds: float) -> Arm:
    """A joint is sent a fifth of its range further than it can go, for so long."""
    arm, joint = clean(rng), int(rng.integers(6))
    many, ramp = round(seconds * FPS), round(0.7 * FPS)
    row = _row(rng, arm, many + 2 * ramp)
    limit = HOME[joint] + 0.5 * REACH[joint]
    action, state = arm.action.copy(), arm.state.copy()
    goal = limit + 0.2 * REACH[joint]
    way = _move(np.array([action[row, joint]]), np.array([goal]), ramp)[:, 0]
    back = _move(np.array([goal]), np.array([action[row + 2 * ramp + many, joint]]), ramp)[:, 0]
    wanted = np.concatenate([way, np.full(many, goal), back])
    action[row : row + len(wanted), joint] = wanted
    at = state[row - 1, joint]
    for place, goal_now in enumerate(wanted):
        at = min(at + FOLLOW * (goal_now - at), limit)
        state[row + place, joint] = at
    state[row : row + len(wanted)] = _read(rng, state[row : row + len(wanted)])
    return replace(arm, action=action, state=state, joint=joint, fault=(row, row + len(wanted)))


def jumped(rng: np.random.Generator, times: float) -> Arm:
    """One reading is wrong by so many times the way of the fastest movement from frame to frame."""
    arm, joint = clean(rng), int(rng.integers(6))
    row, state = _row(rng, arm, 1), arm.state.copy()
    state[row, joint] += rng.choice([-1, 1]) * times * FASTEST[joint]
    return replace(arm, state=state, joint=joint, fault=(row, row + 1))


def shaken(rng: np.random.Generator, times: float) -> Arm:
    """A joint shakes for two seconds at 7 to 12 Hz, so many times as rough as its roughest second."""
    arm, joint = clean(rng), int(rng.integers(6))
    many = round(2 * FPS)
    row = _row(rng, arm, many)
    hertz = rng.uniform(7, 12)
    third = np.abs(np.diff(arm.state[:, joint], n=3))
    windows = np.lib.stride_tricks.sliding_window_view(third, round(FPS))
    usual = np.median(windows, axis=1).max()
    # The third difference of a sine is this many times as large; its median is 0.7 of its greatest.
    width = times * usual / (2 * np.sin(np.pi * hertz / FPS)) ** 3 / 0.7
    state = arm.state.copy()
    state[row : row + many, joint] += width * np.sin(2 * np.pi * hertz * np.arange(many) / FPS)
    return replace(arm, state=state, joint=joint, fault=(row, row + many))


def idle_at_start(rng: np.random.Generator, seconds: float) -> Arm:
    """It stands still for so long before it begins, and moves for as long as usual."""
    arm = clean(rng, seconds=USUAL_S - seconds, still_s=(seconds, 0.0))
    return replace(arm, fault=(0, round(seconds * FPS)))


def idle_at_end(rng: np.random.Generator, seconds: float) -> Arm:
    """It stands still for so long after it is done."""
    arm = clean(rng, seconds=USUAL_S - seconds, still_s=(0.0, seconds))
    return replace(arm, fault=(len(arm.index) - round(seconds * FPS), len(arm.index)))


def offset(rng: np.random.Generator, percent: float) -> Arm:
    """The leader's joint is calibrated otherwise, by so much of the joint's reach."""
    arm, joint = clean(rng), int(rng.integers(6))
    action = arm.action.copy()
    action[:, joint] += rng.choice([-1, 1]) * percent / 100 * REACH[joint]
    return replace(arm, action=action, joint=joint)


def odd_length(rng: np.random.Generator, deviations: float) -> Arm:
    """It is longer, or shorter, than others of its task, whose usual deviation is a tenth."""
    return clean(rng, seconds=USUAL_S * float(np.exp(rng.choice([-1, 1]) * deviations * 0.1)))


def odd_end(rng: np.random.Generator, deviations: float) -> Arm:
    """One joint ends elsewhere, whose usual deviation is a fiftieth of its range."""
    joint = int(rng.integers(6))
    off = rng.choice([-1, 1]) * deviations * 0.02 * REACH[joint]
    return replace(clean(rng, end_off={joint: off}), joint=joint)


@cache
def others() -> tuple[Arm, ...]:
    """Twenty recordings of the same task, always the same."""
    rng = np.random.default_rng(0)
    return tuple(clean(rng) for _ in range(20))


def copied(rng: np.random.Generator, percent: float) -> Arm:
    """One of the others again, no value further off than so much of its joint's range."""
    arm = others()[int(rng.integers(len(others())))]
    span = np.ptp(arm.state, axis=0)
    wrong = rng.uniform(-1, 1, arm.state.shape) * percent / 100 * span
    return replace(arm, state=arm.state + wrong, time_us=arm.time_us + 3_600_000_000)


@dataclass(frozen=True)
class Fault:
    """One known fault.

    make  the recording with a fault of a size
    size  at which it is to be found, in the unit of its flag
    """

    make: Callable[[np.random.Generator, float], Arm]
    size: float


FAULTS: Mapping[str, Fault] = {
    "dropped_frames": Fault(dropped, 4.0),
    "rate_off": Fault(off_rate, 8.0),
    "stall": Fault(stalled, 0.5),
    "old_observation": Fault(late, 300.0),
    "not_finite": Fault(broken_values, 1.0),
    "frozen_joint": Fault(frozen, 1.5),
    "saturated": Fault(at_limit, 1.5),
    "jump": Fault(jumped, 6.0),
    "jerk": Fault(shaken, 10.0),
    "idle_start": Fault(idle_at_start, 5.0),
    "idle_end": Fault(idle_at_end, 5.0),
    "leader_offset": Fault(offset, 8.0),
    "odd_length": Fault(odd_length, 6.0),
    "odd_end": Fault(odd_end, 9.0),
    "duplicate": Fault(copied, 0.1),
}
