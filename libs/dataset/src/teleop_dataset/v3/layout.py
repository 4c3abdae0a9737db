"""Where each part of a dataset lies."""

from typing import NamedTuple

CODEBASE_VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
BYTES_PER_MB = 1024 * 1024

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
PROVENANCE = "meta/backend.json"
DATA_TEMPLATE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_TEMPLATE = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


class Place(NamedTuple):
    """Number of a file: LeRobot counts files within chunks (folders) of CHUNK_FILES each."""

    chunk: int
    file: int

    def data_path(self) -> str:
        return DATA_TEMPLATE.format(chunk_index=self.chunk, file_index=self.file)

    def episodes_path(self) -> str:
        return EPISODES_TEMPLATE.format(chunk_index=self.chunk, file_index=self.file)

    def following(self) -> "Place":
        """The place after this one; numbers have no gaps."""
        return Place(self.chunk, self.file + 1) if self.file + 1 < CHUNK_FILES else Place(self.chunk + 1, 0)


FIRST_PLACE = Place(0, 0)
