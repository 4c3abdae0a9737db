"""What every store promises, also of a process that was killed while it used it."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from uuid import UUID

import pytest
from teleop_runtime.store import (
    OffsetMismatch,
    Store,
    UploadBusy,
)
from teleop_testing.datasets.files import sha256_of
from teleop_testing.datasets.storing import begun, content_of, parts_of

MIB = 1024 * 1024

KILLED_WRITER = """
import asyncio, sys
from uuid import UUID
from teleop_runtime.store import Checksum, open_store

async def parts():
    for _ in range(64):
        yield b"k" * 1024 * 1024
        await asyncio.sleep(0.005)
    print("sent", flush=True)
    await asyncio.Event().wait()

async def main():
    checksum = Checksum("sha256", b"") if sys.argv[3] == "checked" else None
    await open_store(sys.argv[1]).append(UUID(sys.argv[2]), 5, parts(), limit=2**30, checksum=checksum)

print("ready", flush=True)
asyncio.run(main())
"""


KILLED_FINISHER = """
import asyncio, sys
from uuid import UUID
from teleop_runtime.store import open_store

store = open_store(sys.argv[1])
print("ready", flush=True)
asyncio.run(store.finish(UUID(sys.argv[2]), sha256=sys.argv[3], size_bytes=int(sys.argv[4])))
print("done", flush=True)
"""


async def killed(script: str, *arguments: str, after_s: float) -> None:
    """Run a script and kill it -9 some time after it got ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    await asyncio.sleep(after_s)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    await process.communicate()


@pytest.mark.parametrize("after_s", [0.02, 0.15, 0.4])
async def test_killed_while_appending(store, address, after_s):
    """After kill -9 in the middle, what the offset counts is there, and the upload goes on from it."""
    upload_id = await begun(store, b"first")
    await killed(KILLED_WRITER, address, str(upload_id), "plain", after_s=after_s)
    offset, end = await insisted(store, upload_id, b"last")
    assert offset >= 5
    assert end == offset + 4
    assert await store.digest(upload_id) == sha256_of(b"first" + b"k" * (offset - 5) + b"last")


async def insisted(store: Store, upload_id: UUID, content: bytes) -> tuple[int, int]:
    """Offsets before and after an append; what a dead writer had sent off to S3 may still arrive."""
    while True:
        offset = await store.staged_bytes(upload_id)
        assert offset is not None
        with suppress(OffsetMismatch, UploadBusy):
            return offset, await store.append(upload_id, offset, parts_of(content), limit=2**30)


@pytest.mark.parametrize("after_s", [0.02, 0.4])
async def test_killed_while_appending_checked(store, address, after_s):
    """After kill -9 no byte counts that did not pass its checksum."""
    upload_id = await begun(store, b"first")
    await killed(KILLED_WRITER, address, str(upload_id), "checked", after_s=after_s)
    assert await store.staged_bytes(upload_id) == 5
    await store.append(upload_id, 5, parts_of(b"last"), limit=2**30)
    assert await store.digest(upload_id) == sha256_of(b"firstlast")


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.3])
async def test_killed_while_finishing(store, address, after_s):
    """After kill -9 there is the whole object or none, and finishing again succeeds."""
    content = os.urandom(24 * MIB)
    upload_id = await begun(store, content)
    arguments = (address, str(upload_id), sha256_of(content), str(len(content)))
    await killed(KILLED_FINISHER, *arguments, after_s=after_s)
    assert await store.size(sha256_of(content)) in (None, len(content))
    await store.finish(upload_id, sha256=sha256_of(content), size_bytes=len(content))
    assert await content_of(store, sha256_of(content)) == content
