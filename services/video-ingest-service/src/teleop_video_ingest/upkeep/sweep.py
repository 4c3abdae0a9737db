"""Keeps the store tidy, in one replica at a time.

- It removes expired uploads, including those that only a lost state of the database knew.
- A recording of fifty episodes would keep fifty copies of its growing videos. Therefore it keeps only the
  newest few of each recording's unfinalised versions and of each file's revisions, and removes objects
  without references. What no later version is known to contain stays, even if its name is used again.
- Objects without a row come from a process that died between the two, or from a database that knew more than
  this one. They get a row, and stay until somebody claims them or an admin removes them (`unclaimed`).
- Rows without an object are damage, and are reported.
"""

from datetime import UTC, datetime, timedelta

from teleop_runtime.batches import in_batches
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_runtime.store import Store

from teleop_video_ingest.datasets.recordings import judge_recordings
from teleop_video_ingest.datasets.version_notes import remove_note
from teleop_video_ingest.files.verification import MISSING, report_damage, verify_objects
from teleop_video_ingest.metrics import SWEPT_OBJECTS, UNCLAIMED_OBJECTS
from teleop_video_ingest.tables import sweep_table
from teleop_video_ingest.uploads.uploads import Uploads

log = get_logger(__name__)

# Not urgent, because everything that is removed has been unused for days.
SWEEP_EVERY_S = 600.0
# Rare, because it walks over the whole store, which costs money on S3.
LIST_EVERY = timedelta(hours=1)
# Time limit for such a walk over millions of objects.
SWEEP_TIMEOUT_S = 3600.0
# Time limit for finding, among all files, those of no version.
THIN_TIMEOUT_S = 300.0
# Time limit for the rows of LISTED_TOGETHER objects.
REMOVE_TIMEOUT_S = 60.0
# States of a dataset, and revisions of a file that is rewritten after every episode (`info.json`):
# a person who has broken something wants one of the last ones back.
KEPT_VERSIONS = 3
KEPT_REVISIONS = 3
# The row of a young object may be just being written.
ORPHANS_STAY = timedelta(hours=1)
# Objects per query; five pages of S3's listing.
LISTED_TOGETHER = 5000


class Sweeper:
    """Sweeps each time it is called."""

    def __init__(self, pool: Pool, store: Store, uploads: Uploads) -> None:
        self._pool = pool
        self._store = store
        self._uploads = uploads
        self._listed_at: datetime | None = None

    async def sweep(self) -> bool:
        """Sweep; False if another replica is sweeping."""
        async with connected(self._pool, timeout_s=SWEEP_TIMEOUT_S) as connection:
            if not await sweep_table.try_lock(connection):
                return False
            try:
                await self._sweep(connection)
            finally:
                await sweep_table.unlock(connection)
        return True

    async def _sweep(self, connection: Connection) -> None:
        # Nothing is judged by a disk that is not there.
        await self._store.check_owner()
        uploads = await self._uploads.sweep()
        released = await self._thin_out()
        if self._listed_at is None or datetime.now(UTC) > self._listed_at + LIST_EVERY:
            await self._compare(connection)
            await self._tell_unclaimed(connection)
            uploads += await self._uploads.sweep_unknown()
        released |= set(await sweep_table.unreferenced(connection, ORPHANS_STAY))
        removed = [await remove_unreferenced(self._pool, self._store, sha256) for sha256 in released]
        if uploads or any(removed):
            log.info("swept", uploads=uploads, objects=sum(removed))

    async def _thin_out(self) -> set[str]:
        """Delete surplus versions and revisions; returns the objects that they referred to."""
        await judge_recordings(self._pool, self._store, more_than=KEPT_VERSIONS)
        async with transaction(self._pool, timeout_s=THIN_TIMEOUT_S) as thinning:
            # Before the versions go, between which they came.
            released = await sweep_table.thin_revisions(thinning, KEPT_REVISIONS)
            versions = await sweep_table.too_many_versions(thinning, KEPT_VERSIONS)
            for version in versions:
                await remove_note(thinning, self._store, version)
            return released | await sweep_table.forget_versions(
                thinning, versions, kept_revisions=KEPT_REVISIONS
            )

    async def _tell_unclaimed(self, connection: Connection) -> None:
        found = await sweep_table.unclaimed(connection)
        UNCLAIMED_OBJECTS.set(len(found))
        if found:
            log.warning(
                "objects that this database does not know are kept",
                objects=len(found),
                size_bytes=sum(size_bytes for _, size_bytes in found),
                see="python -m teleop_video_ingest.unclaimed",
            )

    async def _compare(self, connection: Connection) -> None:
        """Compare rows and objects, both ways."""
        begun = datetime.now(UTC)
        await list_store(connection, self._store)
        if adopted := await sweep_table.adopt(connection):
            log.warning("objects without a row adopted", objects=len(adopted))
        await report_missing(connection, self._pool, self._store, begun)
        # A folder that was put back, or files that somebody restored: sound again if their bytes are.
        await verify_objects(self._pool, self._store, await sweep_table.back_again(connection, MISSING))
        await sweep_table.end_listing(connection)
        self._listed_at = begun


async def report_missing(connection: Connection, pool: Pool, store: Store, before: datetime) -> int:
    """Report as damage what `list_store` has not found of the rows older than `before`; how many."""
    missing = 0
    for sha256, size_bytes in await sweep_table.not_as_listed(connection, before):
        # The listing may be older than the object: it is asked once more.
        found = await store.size(sha256)
        if found != size_bytes:
            # Before each report: a disk that is unmounted in the middle of a sweep makes nothing lost.
            await store.check_owner()
            await report_damage(
                pool, sha256, MISSING if found is None else f"it has {found} bytes, not {size_bytes}"
            )
            missing += 1
    return missing


async def list_store(connection: Connection, store: Store) -> None:
    """List the objects of the store, until `end_listing`."""
    await sweep_table.begin_listing(connection)
    async for batch in in_batches(store.list_objects(), LISTED_TOGETHER):
        await sweep_table.add_listed(connection, batch)


async def remove_unreferenced(pool: Pool, store: Store, sha256: str) -> bool:
    """Remove the object if nothing refers to it; returns whether it was removed.

    Its row stays locked until its bytes are gone, so that a new reference waits and then finds that they are
    gone.
    """
    async with transaction(pool, timeout_s=REMOVE_TIMEOUT_S) as connection:
        if not await sweep_table.remove_row(connection, sha256):
            return False
        await store.remove(sha256)
    SWEPT_OBJECTS.inc()
    return True
