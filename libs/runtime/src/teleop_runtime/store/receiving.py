"""Writes the parts of a request's body to a staged file, receiving and writing at the same time."""

import asyncio
from collections.abc import AsyncIterator, Callable

from teleop_schema.errors import BodyTooLarge

from teleop_runtime.store.durable import BLOCK_BYTES
from teleop_runtime.store.staged_file import StagedFile
from teleop_runtime.store.threads import in_thread, settled, start_in_thread

# After this many bytes the disk is told to begin writing, so that not everything is left for the end.
SYNC_EVERY_BYTES = 64 * 1024 * 1024


async def receive(
    staged: StagedFile, parts: AsyncIterator[bytes], *, limit: int, check_room: Callable[[], None]
) -> None:
    """Append `parts` to `staged`; when they end or break off, everything that arrived is written.

    At most two blocks are in memory: one being filled, one being written.
    """
    writing: asyncio.Future[None] | None = None
    syncing: asyncio.Future[None] | None = None
    synced = size = staged.size
    block = bytearray()
    try:
        async for part in parts:
            size += len(part)
            if size > limit:
                # What fits is kept: a client that announced too little continues from there.
                block += part[: len(part) - (size - limit)]
                raise BodyTooLarge(f"more bytes than the {limit} announced", limit=limit)
            block += part
            if len(block) < BLOCK_BYTES:
                continue
            if writing is not None:
                await settled(writing)
            writing, block = start_in_thread(staged.write, block), bytearray()
            if size - synced >= SYNC_EVERY_BYTES and (syncing is None or syncing.done()):
                if syncing is not None:
                    # An error of the disk ends the upload here instead of after the last byte.
                    syncing.result()
                # The room was there at the start; others have written since then.
                await in_thread(check_room)
                syncing, synced = start_in_thread(staged.sync), size
    finally:
        try:
            if writing is not None:
                await settled(writing)
            if block:
                await in_thread(staged.write, block)
        finally:
            if syncing is not None:
                await settled(syncing)
