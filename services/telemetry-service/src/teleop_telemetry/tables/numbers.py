"""Gives numbers to new sessions; no number is ever given twice within a store.

A database that was restored to an older state, or is new, would give numbers again for
which the store already has files. Therefore the highest number is written to the store before it is given.
"""

import asyncio

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_runtime.store import Store
from teleop_schema.errors import StorageUnavailable

log = get_logger(__name__)

HIGHEST_NOTE = "sessions/highest"
# Time limit for writing the highest number to the store; a robot waits for its welcome meanwhile.
GIVE_TIMEOUT_S = 10.0

# One replica at a time: whoever reads the store's note must be the next to write it.
LOCK = "SELECT pg_advisory_xact_lock(7264981005)"
# A sequence gives no number twice, even if its transaction is rolled back.
DRAW = "SELECT nextval(pg_get_serial_sequence('teleop_session', 'id')) FROM generate_series(1, $1)"
# Sessions that `adopt` found have numbers that the sequence never gave.
HIGHEST = "SELECT coalesce(max(id), 0) FROM teleop_session"
SKIP = "SELECT setval(pg_get_serial_sequence('teleop_session', 'id'), $1)"


class SessionNumbers:
    """Gives numbers; requests at the same time share one write to the store."""

    def __init__(self, pool: Pool, store: Store | None) -> None:
        """`store`: None if there is none; then only the database counts."""
        self._pool = pool
        self._store = store
        self._waiting: list[asyncio.Future[int]] = []
        self._giving: asyncio.Task[None] | None = None

    async def take(self) -> int:
        """A number that no session ever had. Raises the errors of the database and the store."""
        number: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(number)
        # A thousand robots that come back at once cost one write of the store, not a thousand.
        if self._giving is None or self._giving.done():
            self._giving = asyncio.create_task(self._give())
        return await number

    async def _give(self) -> None:
        while self._waiting:
            asking, self._waiting = self._waiting, []
            try:
                numbers = await self._draw(len(asking))
            except Exception as error:
                for each in asking:
                    # Whoever asked may have gone since.
                    if not each.done():
                        each.set_exception(error)
                continue
            for each, number in zip(asking, numbers, strict=True):
                if not each.done():
                    each.set_result(number)

    async def _draw(self, count: int) -> list[int]:
        async with transaction(self._pool, timeout_s=GIVE_TIMEOUT_S) as connection:
            await connection.execute(LOCK)
            numbers = await _next(connection, count)
            highest = await connection.fetchval(HIGHEST)
            if self._store is not None:
                highest = max(highest, await self._highest(self._store))
            if numbers[0] <= highest:
                log.warning(
                    "session numbers continue after the highest that was ever given",
                    next_of_the_database=numbers[0],
                    highest=highest,
                )
                await connection.execute(SKIP, highest)
                numbers = await _next(connection, count)
            if self._store is not None:
                # Within the transaction, and so before anybody gets one of them.
                await self._note(self._store, numbers[-1])
        return numbers

    async def _highest(self, store: Store) -> int:
        try:
            return int(await store.note(HIGHEST_NOTE) or 0)
        except OSError as error:
            raise StorageUnavailable(f"the file store can't be read: {error}") from error

    async def _note(self, store: Store, number: int) -> None:
        try:
            await store.set_note(HIGHEST_NOTE, b"%d" % number)
        except OSError as error:
            raise StorageUnavailable(f"the file store can't be written: {error}") from error


async def _next(connection: Connection, count: int) -> list[int]:
    return sorted(row[0] for row in await connection.fetch(DRAW, count))
