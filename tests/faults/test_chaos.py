"""A short run of random faults; `make chaos` is the long one, and tries more sabotaged programs."""

import random
from pathlib import Path

import chaos
import pytest

# Each kind is among 31; any ten go in the gate, others each time.
FAULTS = [10, pytest.param(31, marks=pytest.mark.long("each kind of fault once"))]
TRIES = 10


@pytest.mark.parametrize("faults", FAULTS)
async def test_random_faults_lose_and_double_nothing(faults):
    """After faults at random, all that was logged or recorded is there exactly once, and whole."""
    await chaos.run(faults, random.randrange(10**6))


@pytest.mark.parametrize("defect", ["acknowledge_before_commit", "commit_without_waiting_for_the_disk"])
async def test_runner_catches_a_sabotaged_service(defect, monkeypatch):
    """A service that acknowledges what is not durable is found out, or the run above proves nothing."""
    monkeypatch.setenv("SABOTAGE", defect)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(AssertionError, match="acknowledged"):
        await chaos.run(
            TRIES,
            seed=1,
            parts=["robots"],
            only=["crash postgres and look"],
            telemetry="sabotaged_service",
        )
