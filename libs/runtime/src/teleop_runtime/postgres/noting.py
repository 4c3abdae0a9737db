"""Notes in the store of rows that were made without one: by an older release, or while the store was away."""

from collections.abc import Awaitable, Callable

from teleop_runtime.postgres.pool import Connection, Pool, connected

# One transaction each, so that nobody else's write waits for long.
NOTED_TOGETHER = 100


async def note_all(
    pool: Pool,
    unnoted: Callable[[Connection, int], Awaitable[list[int]]],
    note: Callable[[Connection, int], Awaitable[None]],
    *,
    timeout_s: float,
) -> None:
    """Note every row that is not noted yet, a few on a connection.

    unnoted    numbers of rows without a note, at most so many, the oldest first
    note       notes one of them
    timeout_s  for those of one connection
    """
    found = True
    while found:
        async with connected(pool, timeout_s=timeout_s) as connection:
            numbers = await unnoted(connection, NOTED_TOGETHER)
            for number in numbers:
                await note(connection, number)
        found = bool(numbers)
