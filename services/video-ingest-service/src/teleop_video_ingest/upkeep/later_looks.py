"""Checks video chunks that were not checked yet, or not as well as this release can.

If no check could be completed (the machine was busy, or short of memory), the chunk is quarantined until one
is. This is not a verdict: the check is repeated after a minute, two minutes, and so on, up to an hour.
A chunk that an older version (LOOK_VERSION) has checked is checked again, once, a few at a time
and newest first; the old result counts until then.
"""

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.store import ObjectMissing, Store
from teleop_schema.words import counted

from teleop_video_ingest.files.chunk_notes import note_chunk
from teleop_video_ingest.files.probe import Prober
from teleop_video_ingest.files.verification import MISSING, look_at, report_damage
from teleop_video_ingest.metrics import CORRECTED, OUTDATED, QUARANTINED, UNLOOKED
from teleop_video_ingest.model.worker_messages import Probed
from teleop_video_ingest.tables.look_table import (
    Due,
    LookResult,
    count_unlooked,
    make_due,
    note_look,
    often_unlooked,
    take_due,
)

log = get_logger(__name__)

# A probe that failed for lack of time or memory is repeated soon.
LOOK_EVERY_S = 15.0
# Few, because new uploads must be checked as well.
LOOKED_TOGETHER = 10
# Time limit for picking some rows, or writing one.
TIMEOUT_S = 60.0
# Half an hour after it arrived; the next check is after 32 minutes.
TOLD_AFTER_LOOKS = 5


class LaterLooks:
    """Checks due chunks each time it is called."""

    def __init__(self, pool: Pool, store: Store, prober: Prober) -> None:
        self._pool = pool
        self._store = store
        self._prober = prober
        self._trouble: str | None = None

    async def look(self) -> None:
        """Check the chunks that are due, and report how many are left."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            due = await take_due(connection, LOOKED_TOGETHER)
            if left := LOOKED_TOGETHER - len(due):
                await make_due(connection, left)
                due += await take_due(connection, left)
        for chunk in due:
            await self._look(chunk)
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            unlooked, outdated = await count_unlooked(connection)
            often = await often_unlooked(connection, TOLD_AFTER_LOOKS)
        UNLOOKED.set(unlooked)
        OUTDATED.set(outdated)
        self._trouble = often and (
            f"{counted(often.chunks, 'video chunk')} can't be exported because the check does not finish; "
            f"{often.path}: {often.reason}"
        )

    async def check(self) -> None:
        """For `/readyz`; raises, with the reason, if there is video that could not be checked for long."""
        if self._trouble is not None:
            raise RuntimeError(self._trouble)

    async def _look(self, chunk: Due) -> None:
        try:
            probed = await self._prober.look_at(
                self._store,
                chunk.sha256,
                robot_id=chunk.robot_id,
                told_frames=chunk.told,
                depth=chunk.depth,
                span_us=chunk.span_us,
                slow=chunk.slow,
            )
        except ObjectMissing:
            await self._store.check_owner()
            await report_damage(self._pool, chunk.sha256, MISSING)
            return
        if not probed.looked:
            log.warning("video can't be checked yet", path=chunk.path, problem=probed.problem)
            return
        # Bytes that have changed on disk say nothing about what was sent; they must be sent again.
        if probed.problem and (damage := await look_at(self._store, chunk.sha256, chunk.size_bytes)):
            await report_damage(self._pool, chunk.sha256, damage)
            return
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            looked = await note_look(connection, chunk.id, probed)
            await note_chunk(connection, self._store, chunk.id)
        if looked is not None:
            _tell(chunk, looked, probed)


def _tell(chunk: Due, before: LookResult, probed: Probed) -> None:
    if probed.problem is not None and (before.quarantine is None or not before.version):
        QUARANTINED.inc()
    if not before.version:
        log.info("video checked at last", path=chunk.path, problem=probed.problem)
    elif before.corrected:
        CORRECTED.inc()
        log.warning(
            "video corrected: a later check found different pictures in it",
            path=chunk.path,
            had=before.had,
            has=before.has,
            quarantine_was=before.quarantine,
            quarantine=probed.problem,
        )
