"""The frames that each of these clients sends: at a steady pace, and among them one that can't be stored.

    python <client>.py <address> <frames> <seconds> <close|stay>

With `stay`, the client neither sends nor closes after its last frame, until it is killed.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator

ADDRESS, FRAMES, SECONDS, ENDING = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
REFUSED = json.dumps({"observation": {"a": "far"}})
A_LONG_TIME_S = 3600


def _texts() -> Iterator[str]:
    for number in range(FRAMES):
        yield json.dumps({"observation": {"a": number}, "action": {"a": number + 0.5}})
        if number == FRAMES // 2:
            yield REFUSED


def _due(began: float, number: int) -> float:
    return max(0.0, began + number * SECONDS / FRAMES - time.monotonic())


def paced() -> Iterator[str]:
    """What a blocking client sends."""
    began = time.monotonic()
    for number, text in enumerate(_texts()):
        time.sleep(_due(began, number))
        yield text
    if ENDING == "stay":
        time.sleep(A_LONG_TIME_S)


async def paced_in_loop() -> AsyncIterator[str]:
    """What a client of asyncio sends."""
    began = time.monotonic()
    for number, text in enumerate(_texts()):
        await asyncio.sleep(_due(began, number))
        yield text
    if ENDING == "stay":
        await asyncio.sleep(A_LONG_TIME_S)
