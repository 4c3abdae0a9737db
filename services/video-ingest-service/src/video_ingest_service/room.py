"""Tells how much may still be stored."""

import asyncio

from teleop_runtime.logs import get_logger
from teleop_runtime.store import Store
from teleop_schema.errors import BackendError

from video_ingest_service.metrics import FREE_BYTES

log = get_logger(__name__)

LOOK_EVERY_S = 15.0


async def watch_room(store: Store) -> None:
    """Look every LOOK_EVERY_S until cancelled."""
    while True:
        await look(store)
        await asyncio.sleep(LOOK_EVERY_S)


async def look(store: Store) -> None:
    """Tell the room there is now; of a store that nothing bounds nothing is told."""
    try:
        free_bytes = await store.free_bytes()
    except (OSError, BackendError) as error:
        log.warning("the store does not tell how much room it has", error=str(error))
        return
    if free_bytes is not None:
        FREE_BYTES.labels("files").set(free_bytes)
