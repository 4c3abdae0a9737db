"""Whose files the store holds.

Objects that a database does not know are removed from its store after a while: two databases on one store
would remove each other's.
"""

from functools import partial

from teleop_runtime.ownership import claim_store
from teleop_runtime.postgres.pool import Pool, once_usable
from teleop_runtime.store import Store

ASK = "SELECT id::text, EXISTS (SELECT FROM stored_object) FROM installation"


async def claim(pool: Pool, store: Store, store_url: str) -> None:
    """Return once the store is known to be this database's; raises CannotStart if it is another's.

    Waits for a store or a database that can't be reached, or is not migrated.
    """
    await once_usable(partial(claim_store, pool, store, store_url, ASK))
