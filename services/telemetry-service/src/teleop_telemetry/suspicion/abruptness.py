"""Jumps and shaking: what no joint does by itself, compared with its history. Pure."""

from collections.abc import Iterator

import numpy as np

from teleop_telemetry.suspicion.history import FAST, History
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.recording import Floats, Integers, Recording

# Steps before and after one that tell whether the joint was moving fast anyway.
AROUND = 5
FEWEST_STEPS = 2 * AROUND + 1
# Length of the windows in which shaking is judged, each beginning half a window after the one before.
WINDOW_S = 1.0
# Less than this share of a joint's range is no shaking, whatever is usual.
LEAST_ROUGH = 0.002
# What counts as fast is at least this share of a joint's range per second, whatever is usual.
LEAST_FAST = 0.05


def speeds_of(recording: Recording) -> Floats:
    """(N - 1, K) of each step, units per s; a step that took longer is not faster for it. 0 over pauses."""
    took_s = np.maximum(recording.steps_s, 0.5 * recording.period_s)
    speeds: Floats = np.abs(np.diff(recording.signals, axis=0)) / took_s[:, None]
    speeds[~recording.joined] = 0.0
    return speeds


def fast_of(speeds: Floats) -> Floats:
    """(K,) of a Digest."""
    if not len(speeds):
        return np.zeros(speeds.shape[1])
    fast: Floats = np.percentile(speeds, FAST, axis=0)
    return fast


def roughness(recording: Recording) -> tuple[Integers, Floats]:
    """First row of each window (W,), and how rough each signal is within, (W, K), units.

    The median within a window, so that a single jump does not count as shaking.
    """
    size = max(4, round(WINDOW_S / recording.period_s))
    third = np.abs(np.diff(recording.signals, n=3, axis=0))
    if not len(third):
        return np.zeros(1, np.int64), np.zeros((1, recording.signals.shape[1]))
    smooth = recording.smooth
    third[~(smooth[:-2] & smooth[1:-1] & smooth[2:])] = 0.0
    size = min(size, len(third))
    starts = np.arange(0, len(third) - size + 1, max(1, size // 2))
    windows = np.lib.stride_tricks.sliding_window_view(third, size, axis=0)[starts]
    return starts, np.median(windows, axis=2)


def measure_jumps(recording: Recording, speeds: Floats, history: History) -> Iterator[Measurement]:
    """The fastest step of each signal, where it is faster than usual."""
    if len(speeds) < FEWEST_STEPS:
        return
    low, high = history.limits(recording)
    usual = np.maximum(history.fast(speeds), LEAST_FAST * (high - low))
    for place, name in enumerate(recording.names):
        own = speeds[:, place]
        worst: tuple[float, int] | None = None
        for row in np.flatnonzero(own > usual[place]) if usual[place] > 0 else ():
            first = min(max(0, row - AROUND), len(own) - FEWEST_STEPS)
            around = float(np.median(own[first : first + FEWEST_STEPS]))
            ratio = float(own[row]) / max(around, float(usual[place]))
            if worst is None or ratio > worst[0]:
                worst = ratio, int(row)
        if worst is not None:
            ratio, row = worst
            yield Measurement("jump", ratio, *recording.moment(row, row + 2), joint=name)


def measure_jerk(
    recording: Recording, rough: tuple[Integers, Floats], history: History
) -> Iterator[Measurement]:
    """The roughest second of each signal, where it is known what is usual."""
    usual = history.rough()
    if usual is None:
        return
    low, high = history.limits(recording)
    least = np.maximum(usual, LEAST_ROUGH * (high - low))
    starts, windows = rough
    rows = max(4, round(WINDOW_S / recording.period_s))
    for place, name in enumerate(recording.names):
        if least[place] > 0:
            worst = int(np.argmax(windows[:, place]))
            first = int(starts[worst])
            ratio = float(windows[worst, place] / least[place])
            end = min(first + rows + 3, len(recording.index))
            yield Measurement("jerk", ratio, *recording.moment(first, end), joint=name)
