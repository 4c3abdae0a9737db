"""Files of datasets, brought by the robot library as the agent does it."""

from itertools import count

from teleop_client.uploading import Uploader
from teleop_schema.files import FilePlan
from teleop_testing.datasets.files import dataset_file


class Bytes:
    """A file in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


async def keep_uploading(url: str) -> None:
    """One small file after the other, until cancelled."""
    async with Uploader(url) as uploader:
        for number in count():
            content = f"{number}\n".encode() * 50_000
            file = dataset_file(
                content, f"data/chunk-000/file-{number:03}.parquet", dataset="someone/growing"
            )
            await uploader.upload(FilePlan(file=file), Bytes(content))
