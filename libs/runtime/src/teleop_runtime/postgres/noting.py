"""Writes missing notes of rows to the store, from an older release or a time when the store was away."""

from collections.abc import Awaitable, Callable

from teleop_runtime.postgres.pool import Connection, Pool, connected

# Rows per transaction, so that no other write waits for long.
NOTED_TOGETHER = 100
# So many failures mean that the store is away, and more of them would tell nothing new.
MOST_FAILED = 20


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

    Where one fails, those after it are written all the same; then the first error is raised.
    """
    failed: dict[int, Exception] = {}
    while len(failed) < MOST_FAILED:
        async with connected(pool, timeout_s=timeout_s) as connection:
            numbers = await unnoted(connection, NOTED_TOGETHER + len(failed))
            left = [number for number in numbers if number not in failed]
            for number in left:
                try:
                    await note(connection, number)
                except Exception as error:
                    failed[number] = error
                    if len(failed) == MOST_FAILED:
                        break
        if not left:
            break
    for first in failed.values():
        raise first
