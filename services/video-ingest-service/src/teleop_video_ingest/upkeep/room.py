"""Reports how much space is left."""

from teleop_runtime.store import Store

from teleop_video_ingest.metrics import FREE_BYTES

# As often as Prometheus fetches metrics.
LOOK_EVERY_S = 15.0


async def look(store: Store) -> None:
    """Report the free space; nothing for a store without a limit."""
    free_bytes = await store.free_bytes()
    if free_bytes is not None:
        FREE_BYTES.labels("files").set(free_bytes)
