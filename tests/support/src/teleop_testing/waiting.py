"""Waiting for something to become true."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

# Then a test gives up what does not come. Whatever comes, comes sooner, on a busy machine too.
PATIENCE_S = 300.0
# Short beside what tests wait for, and no load for a machine that is busy with them.
LOOK_EVERY_S = 0.01


async def until(
    look: Callable[[], Any], *, patience_s: float = PATIENCE_S, every_s: float = LOOK_EVERY_S
) -> Any:
    """What `look`, a function or coroutine function, gives once it gives something true.

    every_s  how long it is left alone after each look; more where a look is work, or what comes takes long
    """
    async with asyncio.timeout(patience_s):
        while True:
            found = look()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(every_s)


def wait_for(
    look: Callable[[], Any], *, patience_s: float = PATIENCE_S, every_s: float = LOOK_EVERY_S
) -> Any:
    """The same where there is no event loop."""
    deadline_s = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, "what was waited for did not come"
        time.sleep(every_s)
    return found
