"""Which database owns the files of a place: two databases would remove or replace each other's files."""

from typing import LiteralString

from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.store import Store

# Time limit for one walk over a store's roots.
TIMEOUT_S = 30.0
ADOPT = (
    "in one process `lerobot-backend adopt`, else `python -m teleop_telemetry.archive adopt` where "
    "telemetry-service runs, and then `python -m teleop_video_ingest.adopt` where video-ingest-service does."
)
IF_DATABASE_LOST = f"If that database is lost for good, let this one take over its files: {ADOPT}"
IF_FILES_LOST = f"If its files are lost for good, let it go on without them: {ADOPT}"
SETTINGS = "STORE_URL; in one process LEROBOT_BACKEND_BACKUP_DIR"


async def claim_store(pool: Pool, store: Store, place: str, ask: LiteralString) -> None:
    """Claim the store for this database; returns if it belongs to this database, or to none yet.

    An empty store is refused if the database has files: its disk is not mounted, or the store was moved.

    place   name of the store in error messages
    ask     query for the database's name, and for whether it knows files of the store
    raises  CannotStart if they belong to another database, or are gone; StorageUnavailable
    """
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        database, knows_files = (await connection.fetch(ask))[0]
    owner = await store.owner()
    way_out = (
        "Start with the database they belong to, or keep this one's files elsewhere: in one process, set "
        "LEROBOT_BACKEND_BACKUP_DIR together with LEROBOT_BACKEND_DATA_DIR; else, set STORE_URL."
    )
    if owner is None and knows_files != await holds_objects(store):
        if knows_files:
            raise CannotStart(
                f"{place} is empty, but this database has files there. Is its disk mounted, and is that the "
                f"right place ({SETTINGS})? {IF_FILES_LOST}"
            )
        raise CannotStart(
            f"{place} holds files that this database does not know. {way_out} {IF_DATABASE_LOST}"
        )
    if owner is not None and owner != database:
        raise CannotStart(
            f"the files in {place} belong to another database ({owner}). {way_out} {IF_DATABASE_LOST}"
        )
    if owner is None:
        await store.own(database)


async def holds_objects(store: Store) -> bool:
    """Whether the store has any file."""
    async for _ in store.list_objects():
        return True
    return False
