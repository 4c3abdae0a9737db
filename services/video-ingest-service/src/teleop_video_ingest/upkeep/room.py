"""Tells how much may still be stored."""

from teleop_runtime.store import Store

from teleop_video_ingest.metrics import FREE_BYTES

# As often as metrics are fetched.
LOOK_EVERY_S = 15.0


async def look(store: Store) -> None:
    """Tell the room there is now; of a store that nothing bounds nothing is told."""
    free_bytes = await store.free_bytes()
    if free_bytes is not None:
        FREE_BYTES.labels("files").set(free_bytes)
