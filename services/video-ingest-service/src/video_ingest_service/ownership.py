"""Whose files a store holds.

Objects that a database does not know are removed from its store after a while: two databases on one store
would remove each other's.
"""

import asyncio

from teleop_runtime.app import CannotStart
from teleop_runtime.database import Pool, connected
from teleop_runtime.logs import get_logger
from teleop_runtime.store import Store
from teleop_schema.errors import StorageUnavailable

log = get_logger(__name__)

TIMEOUT_S, RETRY_S = 30.0, 2.0
ASK = "SELECT id::text, EXISTS (SELECT FROM stored_object) AS knows_files FROM installation"
WAY_OUT = (
    "Start with the database that they belong to, or keep the files of this one elsewhere (STORE_URL; in one "
    "process LEROBOT_BACKEND_BACKUP_DIR)."
)


async def claim(pool: Pool, store: Store, store_url: str) -> None:
    """Return if the store holds files of this database, or of none yet: then it is this one's from now on.

    Waits for a store that can't be reached. Raises CannotStart if its files belong to another database.
    """
    while True:
        try:
            return await _claim(pool, store, store_url)
        except StorageUnavailable as error:
            log.warning("waiting for the file store", error=str(error))
            await asyncio.sleep(RETRY_S)


async def _claim(pool: Pool, store: Store, store_url: str) -> None:
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        database, knows_files = (await connection.fetch(ASK))[0]
    owner = await store.owner()
    if owner is None:
        if not knows_files and await _holds_objects(store):
            raise CannotStart(f"{store_url} holds files that this database knows nothing of. {WAY_OUT}")
        await store.own(database)
    elif owner != database:
        raise CannotStart(
            f"the files in {store_url} belong to another database ({owner}). {WAY_OUT} If that database is "
            "gone for good, move them away: datasets and videos lie there in folders, by robot."
        )


async def _holds_objects(store: Store) -> bool:
    async for _ in store.list_objects():
        return True
    return False
