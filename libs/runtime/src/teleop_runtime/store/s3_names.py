"""The tree of names on S3: as on a disk, what is a file there is no folder, and the reverse."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

import msgspec
import obstore
from obstore.store import S3Store

from teleop_runtime.store.errors import PathTaken
from teleop_runtime.store.s3_errors import reaching


class S3Names:
    """Names of objects in a bucket, below `names/`."""

    def __init__(self, bucket: S3Store) -> None:
        self._bucket = bucket

    async def set(self, path: str, sha256: str) -> None:
        """As `Store.name`, of an object that is there; raises PathTaken.

        S3 would take a file and a folder of one name, which no disk does that the tree is restored to or
        copied to. Two writers at the same moment are not seen: whoever lists files of both kinds for one
        version of a dataset is refused again then.
        """
        with reaching():
            if not await self._is_file(path):
                await self._check_free(PurePosixPath(path))
            content = msgspec.json.encode({"sha256": sha256})
            await obstore.put_async(self._bucket, f"names/{path}", content, use_multipart=False)

    async def list(self) -> AsyncIterator[tuple[str, str]]:
        """As `Store.list_names`."""
        with reaching():
            async for page in obstore.list(self._bucket, prefix="names"):
                for found in page:
                    path = found["path"].removeprefix("names/")
                    if (sha256 := await self._read(path)) is not None:
                        yield path, sha256

    async def remove(self, path: str) -> None:
        """As `Store.unname`."""
        with reaching():
            await obstore.delete_async(self._bucket, [f"names/{path}"])

    async def _check_free(self, path: PurePosixPath) -> None:
        folders = [folder for folder in path.parents if folder.name]
        for folder, taken in zip(folders, await asyncio.gather(*map(self._is_file, folders)), strict=True):
            if taken:
                raise PathTaken(f"{folder.name!r} is a file, so no folder of that name can be created")
        async for page in obstore.list(self._bucket, prefix=f"names/{path}", chunk_size=1):
            if page:
                raise PathTaken(f"{path.name!r} is a folder, so no file of that name can be stored")

    async def _is_file(self, path: PurePosixPath | str) -> bool:
        try:
            await obstore.head_async(self._bucket, f"names/{path}")
        except FileNotFoundError:
            return False
        return True

    async def _read(self, path: str) -> str | None:
        try:
            found = await obstore.get_async(self._bucket, f"names/{path}")
        except FileNotFoundError:
            return None  # it was taken away meanwhile
        content = msgspec.json.decode(bytes(await found.bytes_async()), type=dict[str, str])
        return content["sha256"]
