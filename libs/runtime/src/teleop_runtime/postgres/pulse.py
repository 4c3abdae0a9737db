"""Whether the server of a database says anything at all: what tells a frozen one from a busy one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from teleop_runtime.trouble import DatabaseSilent

# A healthy server answers something within this time, however much it has to do: what is asked costs it no
# work. People and probes wait no longer than this for an error. 2 s were too short for a server on two cores,
# with 25 programs at work.
ANSWER_WITHIN_S = 5.0
# Who waits longer for a connection wants to know whether the server answers at all. Connecting takes 5 ms.
SUSPECT_AFTER_S = 0.5
# Sooner than those who were lent a connection give it up, since this says what is the matter.
HEARD_WITHIN_S = ANSWER_WITHIN_S - 2 * SUSPECT_AFTER_S
# A loop that was held up finds an answer and the end of its wait at once, and may see the end first. So the
# wait is counted in slices, of which a stall takes one.
SLICES = 8


class Pulse:
    """Asks one server, once for all who wait for it, over a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._asked: asyncio.Task[Exception | None] | None = None

    async def listen(self) -> Exception | None:
        """None if the server accepts a connection, otherwise why it does not.

        asyncpg.PostgresError  it refuses one, which is an answer too
        DatabaseSilent         it says nothing in time
        ConnectionError        it can't be reached
        """
        # A hundred waiting requests cost a server in trouble one connection, not a hundred.
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(_ask(self._database_url))
        # Whoever stops waiting must not end the question of the others.
        return await asyncio.shield(self._asked)


async def _ask(database_url: str) -> Exception | None:
    try:
        connection = await soon(asyncpg.connect(database_url), HEARD_WITHIN_S)
    except (asyncpg.PostgresError, DatabaseSilent) as error:
        return error
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        return ConnectionError(f"the database can't be reached: {error}")
    # It answered; a polite end would be one more question.
    connection.terminate()
    return None


async def soon[T](answer: Awaitable[T], within_s: float = ANSWER_WITHIN_S) -> T:
    """What the server answers; raises DatabaseSilent if it has not done so within `within_s`."""
    asked = asyncio.ensure_future(answer)
    try:
        if await comes(asked, within_s):
            return asked.result()
    finally:
        asked.cancel()
    raise DatabaseSilent(f"the database has said nothing for {within_s:g} s")


async def comes(answer: asyncio.Future[Any], within_s: float) -> bool:
    """Whether the answer has come within `within_s`, by a clock that stands still while this loop does."""
    for _ in range(SLICES):
        if (await asyncio.wait({answer}, timeout=within_s / SLICES))[0]:
            return True
    return False


async def patiently[T](
    connection: Awaitable[T],
    pulse: Pulse,
    *,
    hopeless: Callable[[Exception], bool],
    give_back: Callable[[T], Awaitable[None]],
) -> T:
    """A connection of a pool, waited for as long as the server answers.

    All connections of a busy pool may be at work for long; those of a frozen server never come back.

    hopeless   whether what `Pulse.listen` heard means that no connection will come; then it is raised
    give_back  takes the connection that comes when nobody waits for it any more
    """
    awaited = True

    async def come() -> T:
        lent = await connection
        if not awaited:
            await give_back(lent)
        return lent

    coming = asyncio.ensure_future(come())
    try:
        while not (await asyncio.wait({coming}, timeout=SUSPECT_AFTER_S))[0]:
            await _listen_until(coming, pulse, hopeless)
        return coming.result()
    except BaseException:
        awaited = False
        # It may have come in the same moment; kept by nobody, it would be lost to the pool.
        if not coming.cancel() and not coming.cancelled() and coming.exception() is None:
            await give_back(coming.result())
        coming.add_done_callback(hear)
        raise


async def _listen_until(
    coming: asyncio.Future[Any], pulse: Pulse, hopeless: Callable[[Exception], bool]
) -> None:
    """Raise what was heard if it is hopeless and nothing has come meanwhile."""
    heard = asyncio.ensure_future(pulse.listen())
    try:
        await asyncio.wait({coming, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done() and (error := heard.result()) is not None and hopeless(error):
            raise error
    finally:
        heard.cancel()


def hear(ended: asyncio.Future[Any]) -> None:
    """Take the error of what nobody waits for any more; asyncio would log it."""
    if not ended.cancelled():
        ended.exception()
