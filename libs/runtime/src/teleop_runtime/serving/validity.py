"""Conversations and streams that last only as long as what let their caller in."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from starlette.websockets import WebSocket

from teleop_runtime.access.principal import Principal
from teleop_runtime.logs import get_logger

log = get_logger(__name__)

type SocketEndpoint = Callable[[WebSocket], Awaitable[None]]
# Returns once what let the caller in has ended.
type Ended = Callable[[], Coroutine[Any, Any, None]]


def _log_end(caller: Principal) -> None:
    log.warning("connection ended: its access is no longer valid", by=caller.name, token_prefix=caller.prefix)


async def events_while_valid[Event](
    caller: Principal, ended_of: Ended, events: AsyncIterable[Event]
) -> AsyncIterator[Event]:
    """The events, until what let the caller in has ended: then whoever asks again is refused."""
    ended = asyncio.ensure_future(ended_of())
    coming: asyncio.Future[Event] | None = None
    iterator = aiter(events)
    try:
        while True:
            coming = asyncio.ensure_future(anext(iterator))
            await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                _log_end(caller)
                return
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        waiting = [each for each in (coming, ended) if each is not None]
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        # So that what it holds, a connection to the database for example, is freed now.
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


async def while_valid(
    websocket: WebSocket, endpoint: SocketEndpoint, caller: Principal, ended_of: Ended
) -> bool:
    """Have the endpoint converse until what let the caller in has ended; False: it has ended by itself."""
    conversing: asyncio.Future[Any] = asyncio.ensure_future(endpoint(websocket))
    ended = asyncio.ensure_future(ended_of())
    try:
        await asyncio.wait((conversing, ended), return_when=asyncio.FIRST_COMPLETED)
        if conversing.done():
            await conversing
            return False
    finally:
        conversing.cancel()
        ended.cancel()
        await asyncio.gather(conversing, ended, return_exceptions=True)
    _log_end(caller)
    return True
