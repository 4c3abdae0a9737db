"""The tree of names on S3: as on a disk, what is a file there is no folder, and the reverse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import PurePosixPath

import msgspec

from teleop_runtime.store.errors import PathTaken
from teleop_runtime.store.s3_bucket import Bucket


class S3Names:
    """Names of objects in a bucket, below `names/`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def set(self, path: str, sha256: str) -> None:
        """As `Store.name`, of an object that is there; raises PathTaken.

        S3 would take a file and a folder of one name, which no disk does that the tree is restored to or
        copied to. Two writers at the same moment are not seen: whoever lists files of both kinds for one
        version of a dataset is refused again then.
        """
        # A file that is there already needs no look at its folders: its first writer has looked.
        if not await self._is_file(path):
            await self._check_free(PurePosixPath(path))
        await self._bucket.put(f"names/{path}", msgspec.json.encode({"sha256": sha256}))

    async def list(self) -> AsyncIterator[tuple[str, str]]:
        """As `Store.list_names`."""
        async for key, _, _ in self._bucket.list("names"):
            # None: it was taken away meanwhile.
            if (content := await self._bucket.small(key)) is not None:
                yield key.removeprefix("names/"), msgspec.json.decode(content, type=dict[str, str])["sha256"]

    async def remove(self, path: str) -> None:
        """As `Store.unname`."""
        await self._bucket.delete([f"names/{path}"])

    async def _check_free(self, path: PurePosixPath) -> None:
        folders = [folder for folder in path.parents if folder.name]
        for folder, taken in zip(folders, await asyncio.gather(*map(self._is_file, folders)), strict=True):
            if taken:
                raise PathTaken(f"{folder.name!r} is a file, so no folder of that name can be created")
        async with aclosing(self._bucket.list(f"names/{path}")) as within:
            async for _ in within:
                raise PathTaken(f"{path.name!r} is a folder, so no file of that name can be stored")

    async def _is_file(self, path: PurePosixPath | str) -> bool:
        return await self._bucket.size(f"names/{path}") is not None
