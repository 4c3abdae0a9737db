"""A short run of random faults; `make chaos` is the long one."""

import random

import chaos

FAULTS = 60


async def test_random_faults_lose_and_double_nothing():
    """After 60 faults drawn at random, every frame that any robot logged is there exactly once."""
    await chaos.run(FAULTS, random.randrange(10**6))
