"""Waiting for something to become true."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

PATIENCE_S = 30.0
LOOK_EVERY_S = 0.01


async def until(look: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Any:
    """What `look`, a function or coroutine function, gives once it gives something true."""
    async with asyncio.timeout(patience_s):
        while True:
            found = look()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(LOOK_EVERY_S)
