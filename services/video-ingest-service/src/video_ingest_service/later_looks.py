"""Looks into video chunks that no look came to an end with: a machine was busy, or short of memory.

Until then they are quarantined, which is no verdict. Each is tried again after a minute, then after two, and
so on, up to an hour.
"""

from teleop_runtime.database import Pool, connected, transaction
from teleop_runtime.logs import get_logger
from teleop_runtime.store import ObjectMissing, Store

from video_ingest_service.chunk_notes import note_chunk
from video_ingest_service.metrics import QUARANTINED, UNLOOKED
from video_ingest_service.probe import Prober
from video_ingest_service.video_table import Unlooked, count_unlooked, note_look, take_unlooked

log = get_logger(__name__)

LOOK_EVERY_S = 15.0
# What is sent now is to be looked into as well.
LOOKED_TOGETHER = 10
TIMEOUT_S = 60.0


async def look(pool: Pool, store: Store, prober: Prober) -> None:
    """Look into those whose time has come, and tell how many are left."""
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        due = await take_unlooked(connection, LOOKED_TOGETHER)
    for chunk in due:
        await _look(pool, store, prober, chunk)
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        UNLOOKED.set(await count_unlooked(connection))


async def _look(pool: Pool, store: Store, prober: Prober, chunk: Unlooked) -> None:
    try:
        probed = await prober.look_at(
            store, chunk.sha256, told_frames=chunk.told, depth=chunk.depth, span_us=chunk.span_us
        )
    except ObjectMissing:
        log.warning("video can't be looked into, for its file is not there", path=chunk.path)
        return
    if not probed.looked:
        log.warning("video can't be looked into yet", path=chunk.path, problem=probed.problem)
        return
    async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
        await note_look(connection, chunk.id, probed)
        await note_chunk(connection, store, chunk.id)
    log.info("video looked into at last", path=chunk.path, problem=probed.problem)
    if probed.problem is not None:
        QUARANTINED.inc()
