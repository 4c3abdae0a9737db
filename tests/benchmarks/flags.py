"""How fast episodes are looked at for what is suspicious, compared with how long they took to record.

Processor time, so that the figure is that of one core whatever else the machine does.
"""

import time
from collections.abc import Callable

import numpy as np
from figures import Figure, at_least
from teleop_telemetry.suspicion.history import History
from teleop_telemetry.suspicion.measuring import measure
from teleop_telemetry.suspicion.peers import compare_with_task, nearest
from teleop_telemetry.suspicion.recording import Recording
from teleop_testing.robots import arms

HZ = 60.0
EPISODES = 20
# With as many others as an episode is compared with.
OTHERS = 200
LEAST = 50.0


def run() -> list[Figure]:
    rng = np.random.default_rng(1)
    short = [recorded(arms.clean(rng, seconds=24.0)) for _ in range(EPISODES)]
    long = [recorded(arms.clean(rng, seconds=1200.0))]
    digests = [found.digest for each in short if (found := measure(each, History())) is not None]
    history = History(digests)
    others = {(1, number): digests[number % EPISODES] for number in range(OTHERS)}
    peers = list(others.values())

    def look(recording: Recording) -> None:
        found = measure(recording, history)
        assert found is not None
        list(compare_with_task(found.digest, peers, 0, len(recording.index)))
        nearest(found.digest, others, 0, len(recording.index))

    return [
        at_least("12 joint values at 60 Hz, episodes of 12 s", pace(short, look), "x real time", LEAST),
        at_least("12 joint values at 60 Hz, an episode of 10 min", pace(long, look), "x real time", LEAST),
    ]


def pace(recordings: list[Recording], look: Callable[[Recording], None]) -> float:
    """Seconds of recording for each second of a core."""
    begun = time.process_time()
    for recording in recordings:
        look(recording)
    return sum(len(each.index) / HZ for each in recordings) / (time.process_time() - begun)


def recorded(arm: arms.Arm) -> Recording:
    """Its frames, played at HZ."""
    return Recording(
        fps=HZ,
        index=arm.index,
        time_us=(arm.time_us * (arms.FPS / HZ)).astype(np.int64),
        state=arm.state,
        action=arm.action,
        age_us=arm.age_us,
        state_names=arms.NAMES,
        action_names=arms.NAMES,
    )
