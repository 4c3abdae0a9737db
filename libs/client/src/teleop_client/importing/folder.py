"""A dataset's folder: its files, and what the backend has to know of it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.files import MAX_DATASET_FILES, MAX_FILE_BYTES, DatasetFile, Manifest, ManifestFile
from teleop_schema.identifiers import stored_path

INFO = Path("meta/info.json")
# LeRobot's has some kB.
MAX_INFO_BYTES = 16 * 1024**2
# What a closed Parquet file ends with.
PARQUET_END = b"PAR1"
# Of Hugging Face's downloads, and of other tools: not part of a dataset.
HIDDEN = "."
READ_BYTES = 1024 * 1024


class NotADataset(Exception):
    """The folder is not a dataset that can be imported; says why, and `hint` what to do."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


class _Info(msgspec.Struct):
    codebase_version: str
    total_episodes: int
    total_frames: int


@dataclass(frozen=True)
class LocalFile:
    """A file of the dataset, hashed.

    path  in the dataset, as the server knows it
    """

    file: Path
    path: str
    size_bytes: int
    sha256: str

    def described(self, robot_id: str, dataset: str) -> DatasetFile:
        """As its upload is announced."""
        return DatasetFile(
            robot_id=robot_id,
            dataset=dataset,
            path=self.path,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
        )


def find_files(folder: Path) -> list[Path]:
    """The dataset's files, by path; raises NotADataset, OSError."""
    if not (folder / INFO).is_file():
        raise NotADataset(f"{folder} has no {INFO}", "name the folder of one LeRobot dataset")
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith(HIDDEN))
        files = [Path(place, name) for name in sorted(names) if not name.startswith(HIDDEN)]
        found += [file for file in files if file.is_file() and not file.is_symlink()]
        if len(found) > MAX_DATASET_FILES:
            raise NotADataset(f"{folder} has more than {MAX_DATASET_FILES} files")
    for file in found:
        if file.suffix == ".parquet" and not _is_closed(file):
            raise NotADataset(
                f"{file} is not closed: the dataset is being recorded, or its recorder was killed",
                "sync-agent backs up such a dataset, and the backend repairs it",
            )
    return found


def manifest_of(folder: Path, files: list[LocalFile]) -> Manifest:
    """The dataset's state; raises NotADataset."""
    try:
        with (folder / INFO).open("rb") as file:
            info = msgspec.json.decode(file.read(MAX_INFO_BYTES), type=_Info)
    except DECODE_ERRORS as error:
        raise NotADataset(f"{folder / INFO} can't be read: {error}") from None
    if not info.codebase_version.startswith("v3."):
        raise NotADataset(
            f"the dataset has format {info.codebase_version}, and v3.0 is needed",
            "convert it: python -m lerobot.scripts.convert_dataset_v21_to_v30",
        )
    return Manifest(
        files=tuple(ManifestFile(each.path, each.size_bytes, each.sha256) for each in files),
        total_episodes=info.total_episodes,
        total_frames=info.total_frames,
        finalised=True,
    )


def hash_file(folder: Path, file: Path) -> LocalFile:
    """The file with its hash; raises NotADataset, OSError, BadInput."""
    digest = hashlib.sha256()
    size = 0
    with file.open("rb") as content:
        while part := content.read(READ_BYTES):
            digest.update(part)
            size += len(part)
    if size > MAX_FILE_BYTES:
        raise NotADataset(f"{file} has more than {MAX_FILE_BYTES} bytes")
    return LocalFile(file, stored_path(file.relative_to(folder).as_posix()), size, digest.hexdigest())


def _is_closed(file: Path) -> bool:
    with file.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(max(0, size - len(PARQUET_END)))
        return content.read() == PARQUET_END
