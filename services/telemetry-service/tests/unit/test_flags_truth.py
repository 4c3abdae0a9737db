"""Flags of recordings whose faults are known, because they were made up: how many are found, and how many of
those found are there."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lerobot_robot_virtual.arm import NAMES, VirtualArm, leader_positions
from teleop_telemetry.suspicion.catalogue import DEFAULTS, KINDS
from teleop_telemetry.suspicion.history import Digest, History
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.measuring import Measured, flags_of, measure, suspicion_of
from teleop_telemetry.suspicion.peers import compare_with_task, nearest
from teleop_telemetry.suspicion.recording import Recording
from teleop_testing.robots import arms
from teleop_testing.robots.arms import FAULTS, Arm

LEAST = 0.95
# One fault may show twice: a joint whose sensor hung is suddenly elsewhere when it comes back.
MAY_ALSO_SHOW = {"frozen_joint": {"jump"}}
DOCUMENTS = Path(__file__).parents[4] / "docs/howto"


def recorded(arm: Arm) -> Recording:
    return Recording(
        fps=arms.FPS,
        index=arm.index,
        time_us=arm.time_us,
        state=arm.state,
        action=arm.action,
        age_us=arm.age_us,
        state_names=arms.NAMES,
        action_names=arms.NAMES,
    )


@cache
def digests() -> list[Digest]:
    return [measure(recorded(arm), History()).digest for arm in arms.others()]


@cache
def history() -> History:
    return History(digests())


def measured(arm: Arm, usual: History | None = None) -> list[Measurement]:
    """Everything that is measured of it, beside twenty others of its task."""
    own = measure(recorded(arm), history() if usual is None else usual)
    first, end = int(arm.index[0]), int(arm.index[-1]) + 1
    others = {(1, number): each for number, each in enumerate(digests())}
    like = nearest(own.digest, others, first, end)
    compared = compare_with_task(own.digest, digests(), first, end)
    return [*own.measurements, *compared, *([] if like is None else [like])]


def flags(arm: Arm) -> list[Measurement]:
    return [flag.measurement for flag in flags_of(measured(arm), DEFAULTS)]


def names(told: Iterable[Measurement]) -> set[str]:
    return {each.flag for each in told}


def is_among(flags: Iterable[Measurement], name: str, arm: Arm) -> bool:
    """With the joint that has the fault, at its moment."""
    for told in flags:
        right = arm.joint is None or told.joint in {
            f"{part}.{arms.NAMES[arm.joint]}" for part in ("observation", "action")
        }
        if told.flag == name and right:
            if arm.fault is None:
                return True
            first, end = arm.fault
            return told.first_frame < end and told.end_frame > first
    return False


def account(each: int) -> dict[str, tuple[float, float]]:
    """Precision and recall by flag, over `each` recordings with each fault and as many clean ones."""
    hits, wrong = Counter(), Counter()
    rng = np.random.default_rng(each)
    for _ in range(each):
        wrong.update(names(flags(arms.clean(rng))))
    for name, fault in FAULTS.items():
        for _ in range(each):
            arm = fault.make(rng, fault.size)
            told = flags(arm)
            hits[name] += is_among(told, name, arm)
            wrong.update(names(told) - {name} - MAY_ALSO_SHOW.get(name, set()))
    return {name: (hits[name] / (hits[name] + wrong[name] or 1), hits[name] / each) for name in FAULTS}


def test_there_is_a_fault_for_each_flag():
    assert FAULTS.keys() == KINDS.keys()
    for name, kind in KINDS.items():
        assert kind.excess(FAULTS[name].size, kind.default) > 1


def test_flags_are_right():
    """Each flag judges 240 recordings, of which 15 have its fault."""
    assert {name: pair for name, pair in account(15).items() if min(pair) < LEAST} == {}


@pytest.mark.long("3200 recordings are made and looked at; test_flags_are_right does 240 of them")
def test_flags_are_right_of_many():
    assert {name: pair for name, pair in account(200).items() if min(pair) < LEAST} == {}


@pytest.mark.parametrize("name", [name for name in KINDS if DEFAULTS[name]])
def test_just_below_its_threshold_nothing_is_said(name):
    """A recording with the fault, whose measured value is 75 to 100 % of the threshold, has no such flag."""
    kind, threshold = KINDS[name], DEFAULTS[name]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        size = threshold / 0.9 if kind.below else threshold * rng.uniform(0.3, 1)
        arm = FAULTS[name].make(rng, size)
        told = [each.value for each in measured(arm) if each.flag == name]
        worst = (min if kind.below else max)(told, default=0)
        share = threshold / worst if kind.below and worst else worst / threshold
        if 0.75 < share <= 1:
            assert names(flags(arm)) <= MAY_ALSO_SHOW.get(name, set())
            return
    pytest.fail(f"no recording was just below the threshold of {name}")


def test_clean_recordings_have_no_flag_whether_or_not_anything_is_known():
    rng = np.random.default_rng(7)
    for _ in range(20):
        arm = arms.clean(rng)
        assert flags_of(measured(arm), DEFAULTS) == []
        assert flags_of(measured(arm, History()), DEFAULTS) == []


@pytest.mark.parametrize("fps", [15, 30, 60])
@pytest.mark.parametrize("seconds", [5, 30])
def test_the_virtual_robot_has_no_flag(fps, seconds):
    arm = VirtualArm()
    taken, states = [], []
    for frame in range(fps * seconds):
        taken.append([*arm.command(leader_positions(frame / fps)).values()])
        states.append([*arm.positions.values()])
    frames = np.arange(len(states))
    own = measure(
        Recording(
            fps=fps,
            index=frames,
            time_us=frames * 1_000_000 // fps,
            state=np.array(states, np.float32).astype(float),
            action=np.array(taken, np.float32).astype(float),
            age_us=np.zeros(len(frames), np.int64),
            state_names=NAMES,
            action_names=NAMES,
        ),
        History(),
    )
    assert flags_of(own.measurements, DEFAULTS) == []


@pytest.mark.parametrize("name", ["flags.md", "flags.ko.md"])
def test_the_document_tells_thresholds_and_sizes(name):
    rows = [
        line.split(" | ") for line in (DOCUMENTS / name).read_text("utf-8").splitlines() if line[:3] == "| `"
    ]
    told = {cells[0].strip("| `"): cells[2:] for cells in rows}
    of_code = {
        kind.name: [f"{kind.default:g} {kind.unit}", f"{FAULTS[kind.name].size:g} {kind.unit} |"]
        for kind in KINDS.values()
    }
    assert told == of_code
    if name == "flags.md":
        assert {cells[0].strip("| `"): cells[1].partition(";")[0] for cells in rows} == {
            kind.name: kind.measures for kind in KINDS.values()
        }


def test_suspicion_counts_each_flag_by_how_far_it_is_beyond_its_threshold():
    def of(*told: tuple[str, float]) -> float:
        return suspicion_of(flags_of([Measurement(name, value, 0, 1) for name, value in told], DEFAULTS))

    assert of() == 0
    assert of(("stall", 0.6)) == pytest.approx(2)
    assert of(("stall", 0.6), ("idle_end", 4.5)) == pytest.approx(3.5)
    assert of(("jump", 8), ("jump", 12)) == pytest.approx(3)
    assert of(("stall", 1e9)) == of(("not_finite", 1)) == of(("duplicate", 0)) == 10


@pytest.mark.parametrize("values", ["still", "huge", "not finite", "mixed"])
@pytest.mark.parametrize("times", ["steady", "all the same", "backwards", "with a pause"])
def test_whatever_was_recorded_can_be_measured(values, times):
    """Every value is a number, so that it can be stored and compared; nothing divides by zero."""
    for frames, widths in product((1, 2, 3, 5, 12, 90), ((2, 2), (0, 2), (2, 0), (0, 0))):
        check_measured(odd(frames, widths, values, times))


def odd(frames: int, widths: tuple[int, int], values: str, times: str) -> Recording:
    rng = np.random.default_rng(frames)
    choice = {"still": [1.0], "huge": [3e38, -3e38], "not finite": [np.nan, np.inf]}
    drawn = choice.get(values, [0.0, 1.0, np.nan, 3e38])
    time_us = {"all the same": np.zeros(frames), "backwards": -np.arange(frames) * 1e4}
    return Recording(
        fps=30.0,
        index=np.arange(frames) * 2 if times == "steady" else np.arange(frames),
        time_us=time_us.get(times, np.arange(frames) * 33_333).astype(np.int64),
        state=rng.choice(drawn, (frames, widths[0])),
        action=rng.choice(drawn, (frames, widths[1])),
        age_us=np.zeros(frames, np.int64),
        state_names=["a", "b"][: widths[0]],
        action_names=["b", "c"][: widths[1]],
        pauses=[(10, 40)] if times == "with a pause" else [],
    )


def check_measured(recording: Recording) -> None:
    frames = len(recording.index)
    own = measure(recording, History())
    known = History([own.digest] * 5)
    again = measure(recording, known)
    compared = compare_with_task(own.digest, [own.digest] * 10, 0, frames)
    like = nearest(own.digest, {(1, 0): own.digest}, 0, frames)
    told = [*own.measurements, *again.measurements, *compared, *([] if like is None else [like])]
    assert all(np.isfinite(each.value) and each.value >= 0 for each in told)
    assert all(0 <= each.first_frame < each.end_frame for each in told)
    assert msgspec.json.decode(msgspec.json.encode(own), type=Measured) == own


def test_an_episode_that_is_nothing_but_a_pause_has_nothing_to_measure():
    arm = arms.clean(np.random.default_rng(1))
    whole = dataclasses.replace(recorded(arm), pauses=[(0, len(arm.index))])
    assert measure(whole, History()) is None
