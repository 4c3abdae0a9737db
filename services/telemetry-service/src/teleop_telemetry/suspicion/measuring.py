"""All measurements of an episode, and which of them are flags. Pure."""

import math
from collections.abc import Iterable, Mapping

from msgspec import Struct, structs

from teleop_telemetry.suspicion.abruptness import (
    fast_of,
    measure_jerk,
    measure_jumps,
    roughness,
    speeds_of,
)
from teleop_telemetry.suspicion.catalogue import KINDS, FlagName
from teleop_telemetry.suspicion.history import Digest, History, shape_of
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.motion import measure_motion
from teleop_telemetry.suspicion.recording import Recording, without_pauses
from teleop_telemetry.suspicion.timing import measure_times

# Greater values are kept as this: it is far beyond any threshold, and JSON has neither infinity nor NaN.
MOST = 1e9

# A flag counts for at most this much of an episode's suspicion.
MOST_OF_ONE = 10.0


class Measured(Struct, frozen=True):
    """What was measured of an episode's frames, and what is kept of it for comparing others."""

    measurements: list[Measurement]
    digest: Digest


class Flag(Struct, frozen=True):
    """A measurement beyond its threshold."""

    measurement: Measurement
    threshold: float


def measure(recording: Recording, history: History) -> Measured | None:
    """Of an episode without its pauses; None if no frame of it is left."""
    if not len((recording := without_pauses(recording)).index):
        return None
    speeds, rough = speeds_of(recording), roughness(recording)
    low, high = recording.limits
    end, shape = shape_of(recording)
    digest = Digest(
        duration_s=recording.seconds(0, len(recording.index)),
        names=recording.names,
        low=low.tolist(),
        high=high.tolist(),
        fast=fast_of(speeds).tolist(),
        rough=rough[1].max(axis=0).tolist(),
        end=end,
        shape=shape,
    )
    measurements = [
        *measure_times(recording),
        *measure_motion(recording, history),
        *measure_jumps(recording, speeds, history),
        *measure_jerk(recording, rough, history),
    ]
    kept = [each for each in measurements if not math.isnan(each.value)]
    return Measured([structs.replace(each, value=min(each.value, MOST)) for each in kept], digest)


def flags_of(measurements: Iterable[Measurement], thresholds: Mapping[FlagName, float]) -> list[Flag]:
    """Those measurements that are beyond their thresholds, by flag and joint."""
    flags = [
        Flag(each, thresholds[each.flag])
        for each in measurements
        if KINDS[each.flag].excess(each.value, thresholds[each.flag]) > 1
    ]
    return sorted(flags, key=lambda flag: (flag.measurement.flag, flag.measurement.joint or ""))


def suspicion_of(flags: Iterable[Flag]) -> float:
    """How suspicious an episode is: how many times it is beyond each threshold, of each flag the worst joint
    and at most 10, added up; 0 without a flag."""
    worst: dict[FlagName, float] = {}
    for flag in flags:
        name = flag.measurement.flag
        excess = min(KINDS[name].excess(flag.measurement.value, flag.threshold), MOST_OF_ONE)
        worst[name] = max(worst.get(name, 0.0), excess)
    return sum(worst.values())
