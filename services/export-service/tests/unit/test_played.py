"""Which episodes' times a report names."""

import pytest
from teleop_export.planning.played import EpisodeTime, SlowTime, StallTime, worth_telling

STALL = StallTime(after_frame=9, next_frame=10, seconds=0.5)
SLOW = SlowTime(first_frame=0, last_frame=60, measured_hz=20.0)


@pytest.mark.parametrize(
    ("declared", "changes", "named"),
    [
        (30.0, {}, False),
        (30.0, {"dataset_s": 4.0 + 1 / 31}, False),
        (30.0, {"dataset_s": 4.0 + 1 / 29}, True),
        (30.0, {"measured_hz": 31.0}, False),
        (30.0, {"measured_hz": 33.0}, True),
        (30.0, {"measured_hz": None}, False),
        (None, {"measured_hz": 33.0}, False),
        (30.0, {"stalls": [STALL]}, True),
        (30.0, {"slow": [SLOW]}, True),
        (30.0, {"shared_times": 1}, True),
        # The dataset has the nearest whole rate, so it always plays at another one than was declared.
        (29.97, {}, True),
    ],
)
def test_what_is_worth_telling(declared, changes, named):
    """Another rate or duration than was declared, stalls, slow stretches, shared times; nothing else."""
    usual = {"measured_hz": 30.0, "recorded_s": 4.0, "dataset_s": 4.0}
    time = EpisodeTime(episode_index=0, first_frame=0, end_frame=120, **(usual | changes))
    assert worth_telling(time, declared, 30) is named
