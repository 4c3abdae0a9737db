"""The paths of each part of a dataset."""

import re
from typing import NamedTuple

CODEBASE_VERSION = "v3.0"
# These three as LeRobot writes them (`DEFAULT_CHUNK_SIZE`, `DEFAULT_*_FILE_SIZE_IN_MB`); its tools go on with
# the values that info.json has.
CHUNK_FILES = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
# A terabyte, which no file reaches.
UNLIMITED_MB = 1024 * 1024
BYTES_PER_MB = 1024 * 1024

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
PROVENANCE = "meta/backend.json"
DATA_TEMPLATE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_TEMPLATE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_TEMPLATE = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


class FileLimits(NamedTuple):
    """The size in MB after which another file begins; LeRobot's tools continue with the values in info.json.

    one_file  all rows have to be in one file, and all video of a camera too
    """

    data_mb: int
    video_mb: int
    one_file: bool

    @property
    def data_bytes(self) -> int:
        """Size of a Parquet file after which another one begins."""
        return self.data_mb * BYTES_PER_MB

    @property
    def video_bytes(self) -> int:
        """Size of an mp4 file after which another one begins."""
        return self.video_mb * BYTES_PER_MB


LEROBOTS_LIMITS = FileLimits(DATA_FILE_MB, VIDEO_FILE_MB, one_file=False)
# StreamingLeRobotDataset uses index / fps as the time within the mp4, so there must be only one mp4.
ONE_FILE = FileLimits(UNLIMITED_MB, UNLIMITED_MB, one_file=True)


class FileNumber(NamedTuple):
    """Number of a file: LeRobot counts files within chunks (folders) of CHUNK_FILES each."""

    chunk: int
    file: int

    def data_path(self) -> str:
        """Path of the data file of this number."""
        return DATA_TEMPLATE.format(chunk_index=self.chunk, file_index=self.file)

    def episodes_path(self) -> str:
        """Path of the file of episodes of this number."""
        return EPISODES_TEMPLATE.format(chunk_index=self.chunk, file_index=self.file)

    def video_path(self, camera: str) -> str:
        """Path of the mp4 file of this number; `camera` is the feature's name."""
        return VIDEO_TEMPLATE.format(video_key=camera, chunk_index=self.chunk, file_index=self.file)

    def following(self) -> "FileNumber":
        """The place after this one; numbers have no gaps."""
        return (
            FileNumber(self.chunk, self.file + 1)
            if self.file + 1 < CHUNK_FILES
            else FileNumber(self.chunk + 1, 0)
        )

    @classmethod
    def of(cls, path: str) -> "FileNumber":
        """The place at the end of a file's path."""
        found = _NUMBERED.search(path)
        if found is None:
            raise ValueError(f"{path} is not numbered as LeRobot's files are")
        return cls(int(found[1]), int(found[2]))


_NUMBERED = re.compile(r"chunk-(\d+)/file-(\d+)\.\w+\Z")
FIRST_PLACE = FileNumber(0, 0)
