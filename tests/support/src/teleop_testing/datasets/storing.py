"""Bytes on their way into a store, and out of it."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

from teleop_runtime.store import Store

from teleop_testing.datasets.files import sha256_of


async def parts_of(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """`content` as a request brings it."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def begun(store: Store, content: bytes = b"") -> UUID:
    """An upload that holds `content`."""
    upload_id = uuid4()
    await store.begin(upload_id)
    if content:
        await store.append(upload_id, 0, parts_of(content), limit=len(content))
    return upload_id


async def stored(store: Store, content: bytes) -> str:
    """SHA-256 of `content`, which is an object now."""
    upload_id = await begun(store, content)
    await store.finish(upload_id, sha256=sha256_of(content), size_bytes=len(content))
    await store.discard(upload_id)
    return sha256_of(content)


async def content_of(store: Store, sha256: str, *bounds: int) -> bytes:
    """An object, or the part of it between `bounds`."""
    return b"".join([block async for block in store.read(sha256, *bounds)])
