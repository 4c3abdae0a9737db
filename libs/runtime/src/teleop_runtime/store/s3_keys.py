"""Keys of the store on S3, and checks of the bytes sent there; pure."""

import hashlib
from collections.abc import AsyncIterator

from teleop_runtime.store.hashes import check_sha256


def object_key(sha256: str) -> str:
    """The key of the object with that SHA-256."""
    return f"objects/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def parts_among(found: dict[str, int]) -> list[tuple[int, int]]:
    """(offset, size) of the parts among an upload's keys, as far as they follow each other."""
    parts, end = [], 0
    for offset, size in sorted((int(name), size) for name, size in found.items() if name.isdigit()):
        # What lies behind a gap does not count: a client continues from the offset, and fills it.
        if offset != end:
            break
        parts.append((offset, size))
        end += size
    return parts


def end_of(found: dict[str, int]) -> int:
    """The offset of an upload that has these keys."""
    return sum(size for _, size in parts_among(found))


async def checked(blocks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """Passes `blocks` on, and raises ChecksumMismatch at their end unless they have the right hash."""
    hashed = hashlib.sha256()
    async for block in blocks:
        hashed.update(block)
        yield block
    check_sha256(hashed.hexdigest(), sha256)
