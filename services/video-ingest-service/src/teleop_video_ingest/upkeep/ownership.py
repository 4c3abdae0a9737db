"""Which database the store belongs to.

A database removes objects that it does not know from its store after a while, so two databases on one store
would remove each other's objects.
"""

from functools import partial

from teleop_runtime.ownership import claim_store
from teleop_runtime.postgres.pool import Pool, once_usable
from teleop_runtime.store import Store

ASK = "SELECT id::text, EXISTS (SELECT FROM stored_object) FROM installation"


async def claim(pool: Pool, store: Store, store_url: str) -> None:
    """Return once the store is known to belong to this database; raises CannotStart if it belongs to another.

    Waits for a store or a database that can't be reached, or is not migrated.
    """
    await once_usable(partial(claim_store, pool, store, store_url, ASK))
