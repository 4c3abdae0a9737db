"""Whose datasets a root holds.

What is being built there and no row tells of is removed: two databases on one root would remove each other's,
and serve each other's datasets.
"""

import asyncio
from functools import partial

from export_service.database import Pool, connect
from export_service.folders import Folders

ASK = "SELECT id::text, EXISTS (SELECT FROM export) AS knows_exports FROM installation"


async def claim(pool: Pool, folders: Folders) -> None:
    """Return if the root is this database's, or becomes it; raises CannotStart if it is another's."""
    async with connect(pool) as connection:
        row = await (await connection.execute(ASK)).fetchone()
    assert row is not None  # noqa: S101
    await asyncio.to_thread(partial(folders.claim, row["id"], knows_exports=row["knows_exports"]))
