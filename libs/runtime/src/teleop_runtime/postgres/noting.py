"""Writes missing notes of rows to the store, from an older release or a time when the store was away."""

from collections.abc import Awaitable, Callable

from teleop_runtime.postgres.pool import Connection, Pool, connected

# Rows per transaction, so that no other write waits for long.
NOTED_TOGETHER = 100


async def note_all(
    pool: Pool,
    unnoted: Callable[[Connection, int], Awaitable[list[int]]],
    note: Callable[[Connection, int], Awaitable[None]],
    *,
    timeout_s: float,
) -> None:
    """Write the note of every row without one, a few per connection.

    unnoted    returns numbers of rows without a note, oldest first, at most as many as its argument
    note       writes the note of one row
    timeout_s  for the notes of one connection
    """
    found = True
    while found:
        async with connected(pool, timeout_s=timeout_s) as connection:
            numbers = await unnoted(connection, NOTED_TOGETHER)
            for number in numbers:
                await note(connection, number)
        found = bool(numbers)
