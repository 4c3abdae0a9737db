"""Reads request bodies in parts, as they arrive."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request
from teleop_schema.errors import TooSlow

# A body that delivers less than this within this time is refused, so
# that a trickle does not hold a connection.
PATIENCE_S = 30.0
# A line that slow would hold a connection for an hour with a few MB.
LEAST_BYTES = 16 * 1024
# In the state of a request whose caller's access can end: raises Unauthorized once it has.
STILL_ADMITTED = "still_admitted"


async def body_parts(request: Request) -> AsyncGenerator[bytes]:
    """The body as it arrives; raises TooSlow, Unauthorized if its sender may not send any more, and
    ClientDisconnect if the connection breaks.

    Only the time spent waiting for bytes counts, not the time in which the caller works on them.
    """
    loop = asyncio.get_running_loop()
    waited_s, came = 0.0, 0
    check: Callable[[], Awaitable[None]] | None = getattr(request.state, STILL_ADMITTED, None)
    async with aclosing(request.stream()) as stream:
        while True:
            asked_at = loop.time()
            try:
                async with asyncio.timeout(PATIENCE_S - waited_s):
                    part = await anext(stream, b"")
            except TimeoutError:
                raise TooSlow(
                    f"fewer than {LEAST_BYTES} bytes arrived in {PATIENCE_S:g} seconds", limit=LEAST_BYTES
                ) from None
            if not part:
                return
            waited_s, came = waited_s + loop.time() - asked_at, came + len(part)
            if came >= LEAST_BYTES:
                waited_s, came = 0.0, 0
            if check is not None:
                await check()
            yield part
