"""What the times of an episode's frames tell. Pure."""

from collections.abc import Iterator

import numpy as np

from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.recording import Recording

US_PER_MS = 1000
# A longer time without a frame is a stall, not some frames that were dropped.
STALL_S = 0.25
# A rate is not known of fewer frames.
FEWEST_STEPS = 10


def measure_times(recording: Recording) -> Iterator[Measurement]:
    """Dropped frames, rate, stall and old observations, as far as there is anything to measure."""
    if len(recording.steps) >= FEWEST_STEPS:
        yield _dropped(recording)
        yield from _rate(recording)
    if recording.joined.any():
        yield _stall(recording)
    if recording.age_us.any():
        yield _old_observation(recording)


def _dropped(recording: Recording) -> Measurement:
    """Frames that have no row, and beats that the loop has left out."""
    beats = np.rint(recording.steps_s / recording.period_s).astype(np.int64)
    beats[recording.steps_s - recording.period_s > STALL_S] = 1
    left_out = np.where(recording.joined, np.maximum(recording.steps, beats) - 1, 0)
    worst = int(np.argmax(left_out))
    missing = int(left_out.sum())
    share = 100 * missing / (len(recording.index) + missing)
    return Measurement("dropped_frames", share, *recording.moment(worst, worst + 2))


def _rate(recording: Recording) -> Iterator[Measurement]:
    steady = recording.joined & (recording.steps_s - recording.period_s <= STALL_S)
    took_s = float(recording.steps_s[steady].sum())
    if took_s > 0:
        rate_hz = int(recording.steps[steady].sum()) / took_s
        off = 100 * abs(rate_hz / recording.fps - 1)
        yield Measurement("rate_off", off, *recording.moment(0, len(recording.index)))


def _stall(recording: Recording) -> Measurement:
    beyond_s = np.where(recording.joined, recording.steps_s - recording.steps / recording.fps, 0.0)
    worst = int(np.argmax(beyond_s))
    return Measurement("stall", max(float(beyond_s[worst]), 0.0), *recording.moment(worst, worst + 2))


def _old_observation(recording: Recording) -> Measurement:
    """The observation that was used longest: from the first frame that repeats it to the last."""
    worst = int(np.argmax(recording.age_us))
    fresh = np.flatnonzero(recording.age_us[:worst] == 0)
    first = int(fresh[-1]) + 1 if len(fresh) else 0
    return Measurement(
        "old_observation", float(recording.age_us[worst]) / US_PER_MS, *recording.moment(first, worst + 1)
    )
