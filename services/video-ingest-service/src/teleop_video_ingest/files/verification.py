"""Reads stored bytes again, to find out whether they have changed."""

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.store import DiskFailed, ObjectMissing, Store

from teleop_video_ingest.metrics import DAMAGED, VERIFIED_BYTES
from teleop_video_ingest.tables.object_table import note_damage, note_sound

log = get_logger(__name__)

# Objects read in parallel; hashing is done in threads.
READERS = 4
# Rows per transaction, so that no other write waits for long.
NOTED_TOGETHER = 200
# Time limit of such a transaction.
WRITE_TIMEOUT_S = 30.0
MISSING = "it is missing"


async def verify_objects(pool: Pool, store: Store, objects: list[tuple[str, int]]) -> None:
    """Read each (SHA-256, bytes) of `objects`, and store the result in its row.

    Raises StoreUnusable if the store is gone or its disk fails; what was read until then is stored.
    """
    waiting = iter(objects)

    async def work() -> None:
        sound: list[str] = []
        for sha256, size_bytes in waiting:
            damage = await look_at(store, sha256, size_bytes)
            if damage is None:
                sound.append(sha256)
            else:
                await report_damage(pool, sha256, damage)
            if len(sound) >= NOTED_TOGETHER:
                await _note_sound(pool, sound)
                sound = []
        await _note_sound(pool, sound)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(READERS):
                tasks.create_task(work())
    except ExceptionGroup as failed:
        # They all fail for the same reason, and whoever asked is told of errors, not of groups.
        raise failed.exceptions[0] from None


async def look_at(store: Store, sha256: str, size_bytes: int) -> str | None:
    """What is wrong with the bytes of an object; None: nothing."""
    try:
        async for _ in checked(store, sha256, size_bytes):
            pass
    except UnsoundObject as error:
        return str(error)
    return None


class UnsoundObject(Exception):
    """The bytes of an object have changed; the text says how."""


async def checked(store: Store, sha256: str, size_bytes: int) -> AsyncIterator[bytes]:
    """The bytes of an object; raises UnsoundObject at the end, or as soon as they turn out to be wrong.

    Raises StoreUnusable if the whole store is gone, not only the object.
    """
    digest, read_bytes = hashlib.sha256(), 0
    try:
        async for part in store.read(sha256):
            await asyncio.to_thread(digest.update, part)
            read_bytes += len(part)
            VERIFIED_BYTES.inc(len(part))
            if read_bytes > size_bytes:
                break
            yield part
    except ObjectMissing:
        await store.check_owner()
        raise UnsoundObject(MISSING) from None
    except DiskFailed as failed:
        cause = failed.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EIO:
            raise
        raise UnsoundObject(f"it can't be read at byte {read_bytes}: {cause.strerror}") from None
    if read_bytes != size_bytes:
        raise UnsoundObject(f"it has at least {read_bytes} bytes, not {size_bytes}")
    if digest.hexdigest() != sha256:
        raise UnsoundObject(f"the SHA-256 of its bytes is {digest.hexdigest()}")


async def report_damage(pool: Pool, sha256: str, damage: str) -> None:
    """Record damage where everybody sees it: in the row, the log, and the metrics."""
    async with connected(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
        noted = await note_damage(connection, sha256, damage)
    if noted:
        DAMAGED.inc()
        log.error("a stored object is damaged", sha256=sha256, damage=damage)


async def _note_sound(pool: Pool, sha256s: list[str]) -> None:
    if sha256s:
        async with connected(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
            await note_sound(connection, sha256s)
