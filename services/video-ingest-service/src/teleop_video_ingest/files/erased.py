"""Removing the bytes of what was erased."""

from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_runtime.store import Store

from teleop_video_ingest.tables.erasure_table import take_row

# Removing one file, of a slow bucket, while others wait for its row.
REMOVE_TIMEOUT_S = 60.0


async def remove_object(connection: Connection, store: Store, sha256: str) -> bool:
    """Remove an object at once, unless something refers to it; whether it is gone.

    Its row, also that of an object without one, stays locked until the transaction ends.
    """
    if not await take_row(connection, sha256):
        return False
    await store.remove(sha256)
    return True


async def drop_refused(pool: Pool, store: Store, sha256: str) -> None:
    """Remove bytes that came for something that was erased meanwhile, unless others have them, too."""
    async with transaction(pool, timeout_s=REMOVE_TIMEOUT_S) as connection:
        await remove_object(connection, store, sha256)
