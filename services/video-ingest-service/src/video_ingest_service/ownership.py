"""Whose files the store holds.

Objects that a database does not know are removed from its store after a while: two databases on one store
would remove each other's.
"""

import asyncio

from teleop_runtime.database import Pool
from teleop_runtime.logs import get_logger
from teleop_runtime.ownership import claim_store
from teleop_runtime.store import Store
from teleop_schema.errors import StorageUnavailable

log = get_logger(__name__)

RETRY_S = 2.0
ASK = "SELECT id::text, EXISTS (SELECT FROM stored_object) FROM installation"


async def claim(pool: Pool, store: Store, store_url: str) -> None:
    """Return once the store is known to be this database's; raises CannotStart if it is another's.

    Waits for a store that can't be reached.
    """
    while True:
        try:
            return await claim_store(pool, store, store_url, ASK)
        except StorageUnavailable as error:
            log.warning("waiting for the file store", error=str(error))
            await asyncio.sleep(RETRY_S)
