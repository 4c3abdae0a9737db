"""Looks at a dataset's folder while others write to it.

A look never changes anything, follows no symbolic link, and costs a `stat` per file when nothing has changed.
"""

import errno
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import msgspec
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.disk.opening import open_regular
from teleop_schema.errors import BadInput
from teleop_schema.files import MAX_DATASET_FILES, MAX_FILE_BYTES
from teleop_schema.identifiers import MAX_PATH_PARTS, is_escaped, local_path, stored_path
from teleop_schema.words import size_text

from teleop_dataset.errors import BrokenFile
from teleop_dataset.mp4 import read_movie
from teleop_dataset.open_files import writers
from teleop_dataset.parquet_thrift import read_footer

INFO = "meta/info.json"
# Of info.json, and of stats.json. LeRobot's info.json has some kB; a thousand features with their names stay
# below 1 MB.
MAX_DOCUMENT_BYTES = 16 * 1024**2
# Folders that lerobot removes again: pictures of the episode being recorded,
# and folders of tempfile.mkdtemp() in which it encodes each episode's video.
_TEMPORARY = re.compile(r"images|tmp[a-z0-9_]{8}")
# huggingface_hub's notes in a dataset that it downloads or uploads,
# and receipts of uploads from a time when the watched folder was itself a dataset.
_NOTES = frozenset({".cache/huggingface", ".uploaded"})
_VIDEO = re.compile(r"videos/([^/]+)/chunk-\d+/file-\d+\.mp4")
_TABLE = re.compile(r"(data|meta/episodes)/chunk-\d+/file-\d+\.parquet")
# A file that changed this shortly before it was read may change again without a new time.
_CLOCK_TICK_NS = 2_000_000_000
# It goes on while the computer sleeps; macOS has only the other that nobody can set.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _Feature(msgspec.Struct, frozen=True):
    dtype: str


class Info(msgspec.Struct, frozen=True):
    """The part of `meta/info.json` that matters here."""

    codebase_version: str
    fps: float = 0
    total_episodes: int = 0
    total_frames: int = 0
    features: dict[str, _Feature] = {}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the features that are stored as video."""
        return tuple(key for key, feature in self.features.items() if feature.dtype == "video")


@dataclass(frozen=True)
class TableSeen:
    """A Parquet file: rows of each row group, or None while it has no footer."""

    row_groups: tuple[int, ...] | None
    problem: str = ""


@dataclass(frozen=True)
class VideoSeen:
    """An mp4: `problem` says why it can't be played, `whole_frames` is the number of complete frames."""

    frames: int = 0
    whole_frames: int = 0
    media_begin: int = 0
    media_bytes: int = 0
    problem: str = ""

    @property
    def playable(self) -> bool:
        """Whether each frame that the file lists is there."""
        return not self.problem and self.whole_frames == self.frames


@dataclass(frozen=True)
class FileSeen:
    """A file of a dataset at one moment.

    path          path below the dataset on the server; `own_path` is the path here
    changed_ns    last change of its content or name, ns since the Unix epoch; unlike mtime_ns,
                  nobody can set it
    content       for Parquet files below data and meta/episodes, and mp4 files below videos
    otherwise_ns  time of the last look that saw it otherwise, or not at all, by the clock of looks; None:
                  all looks saw it as it is
    """

    path: str
    size_bytes: int
    mtime_ns: int
    changed_ns: int
    inode: int
    content: TableSeen | VideoSeen | None = None
    otherwise_ns: int | None = None

    @property
    def state(self) -> tuple[int, int, int]:
        """A value that changes with the file's bytes (as far as the file system shows)."""
        return self.size_bytes, self.mtime_ns, self.inode

    @property
    def own_path(self) -> str:
        """The file's path below the dataset on this machine."""
        return local_path(self.path)

    @property
    def camera(self) -> str | None:
        """The camera whose video the file is."""
        found = _VIDEO.fullmatch(self.own_path)
        return found and found[1]

    @property
    def is_recorders(self) -> bool:
        """Whether LeRobot may have written it; of escaped files, only videos of cameras."""
        return self.content is not None or not is_escaped(self.path)


@dataclass(frozen=True)
class Skipped:
    """Something in the folder that is not part of the dataset to be saved, and why.

    is_unreadable  whether it would be part of the dataset if it could be read
    """

    path: str
    reason: str
    is_unreadable: bool = False


@dataclass(frozen=True)
class DatasetSeen:
    """A dataset's folder at one moment.

    looked_at_ns   ns, by a clock that nobody can set; shows how far apart looks are
    same_since_ns  time of the first look since which all looks saw the same files
    files          every regular file by its stored path, except those in skipped folders
    info           None if meta/info.json is missing or can't be read (yet); `info_problem` says why
    temporary      folders that lerobot will remove again
    changing       files that changed while being looked at
    writers        processes that write a Parquet file without a footer; None
                   if this machine does not show them
    """

    looked_at_ns: int
    same_since_ns: int
    files: Mapping[str, FileSeen]
    info: Info | None
    info_problem: str
    temporary: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    changing: tuple[str, ...]
    writers: frozenset[int] | None

    def tables(self, folder: str) -> list[tuple[str, TableSeen]]:
        """The Parquet files below `data` or `meta/episodes`, in their order."""
        return [
            (path, file.content)
            for path, file in self.files.items()
            if isinstance(file.content, TableSeen) and path.startswith(folder + "/")
        ]

    def videos(self) -> list[tuple[FileSeen, VideoSeen]]:
        """The mp4 files of all cameras, in their order."""
        return [(file, file.content) for file in self.files.values() if isinstance(file.content, VideoSeen)]


def is_passed_over(path: str) -> bool:
    """Whether the folder at that path in a dataset is a temporary one, and not part of the dataset."""
    return path in _NOTES or _TEMPORARY.fullmatch(path) is not None


def look(dataset: Path, previous: DatasetSeen | None = None) -> DatasetSeen:
    """The current state of the dataset's folder; empty if the folder is gone.

    previous  an earlier look; files that have not changed since are not read again
    """
    listing = _Listing(dataset)
    listing.walk("", MAX_PATH_PARTS)
    known = previous.files if previous else {}
    files: dict[str, FileSeen] = {}
    for path in sorted(listing.found):
        try:
            file = _look_into(dataset, path, listing.found[path], known.get(path), listing.now_ns)
            files[path] = _since_when(file, previous)
        except OSError as error:
            # A file that is gone again is normal; any other error must be reported.
            if error.errno != errno.ENOENT:
                listing.skip_unopened(path, error)
    info, problem = _read_info(dataset, files)
    unfinished = [
        dataset / path
        for path, file in files.items()
        if isinstance(file.content, TableSeen) and file.content.row_groups is None
    ]
    return DatasetSeen(
        looked_at_ns=listing.looked_ns,
        same_since_ns=previous.same_since_ns if previous and _same(previous, files) else listing.looked_ns,
        files=files,
        info=info,
        info_problem=problem,
        temporary=tuple(listing.temporary),
        skipped=tuple(listing.skipped),
        changing=tuple(path for path, file in files.items() if _state(dataset / file.own_path) != file.state),
        writers=writers(unfinished),
    )


class _Listing:
    """The files in a dataset's folder, only by name and `stat`."""

    def __init__(self, dataset: Path) -> None:
        self.now_ns = time.time_ns()
        self.looked_ns = time.clock_gettime_ns(_CLOCK)
        self.found: dict[str, os.stat_result] = {}
        self.temporary: list[str] = []
        self.skipped: list[Skipped] = []
        self._dataset = dataset

    def skip(self, path: str, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))

    def skip_unopened(self, path: str, error: OSError) -> None:
        if error.errno == errno.ELOOP:
            self.skip(path, "a symbolic link")
        else:
            self.skipped.append(Skipped(path, f"unreadable: {error.strerror or error}", is_unreadable=True))

    def walk(self, folder: str, depth: int) -> None:
        try:
            with os.scandir(self._dataset / folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self.skip_unopened(folder, error)
            return
        for entry in ordered:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                self._add(entry, path, depth)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    self.skip_unopened(path, error)

    def _add(self, entry: os.DirEntry[str], path: str, depth: int) -> None:
        if entry.is_symlink():
            self.skip(path, "a symbolic link")
        elif entry.is_dir():
            if is_passed_over(path):
                if path not in _NOTES:
                    self.temporary.append(path)
            elif depth:
                self.walk(path, depth - 1)
            else:
                self.skip(path, f"deeper than {MAX_PATH_PARTS} folders")
        elif not entry.is_file():
            self.skip(path, "neither a file nor a folder")
        # As many as the server takes; each that is left out is named, for the folder is not safe then.
        elif len(self.found) == MAX_DATASET_FILES:
            self.skip(path, f"one of more than {MAX_DATASET_FILES} files")
        else:
            found = entry.stat(follow_symlinks=False)
            if found.st_size > MAX_FILE_BYTES:
                self.skip(path, f"larger than {size_text(MAX_FILE_BYTES)}, the most that the server takes")
                return
            try:
                self.found[stored_path(path)] = found
            except BadInput as error:
                self.skip(path.encode(errors="replace").decode(), error.detail)


def _look_into(
    dataset: Path, path: str, found: os.stat_result, known: FileSeen | None, now_ns: int
) -> FileSeen:
    seen = FileSeen(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    if known and known.state == seen.state and known.changed_ns == seen.changed_ns:
        settled = now_ns - max(seen.mtime_ns, seen.changed_ns) > _CLOCK_TICK_NS
        # Without content there was nothing to read, so there is nothing to read again.
        if settled or known.content is None:
            return known
    own_path = seen.own_path
    with open_regular(dataset / own_path) as file:
        content: TableSeen | VideoSeen | None = None
        if _TABLE.fullmatch(own_path):
            content = _look_at_table(file, seen.size_bytes)
        elif _VIDEO.fullmatch(own_path):
            content = _look_at_video(file, seen.size_bytes)
    return replace(seen, content=content)


def _look_at_table(file: BinaryIO, size_bytes: int) -> TableSeen:
    try:
        footer = read_footer(file, size_bytes)
    except BrokenFile as error:
        return TableSeen(None, error.detail)
    return TableSeen(footer and tuple(group.num_rows for group in footer.row_groups))


def _look_at_video(file: BinaryIO, size_bytes: int) -> VideoSeen:
    try:
        movie = read_movie(file, size_bytes)
    except BrokenFile as error:
        return VideoSeen(problem=error.detail)
    return VideoSeen(movie.frames, movie.whole_frames, movie.media_begin, movie.media_bytes)


def _read_info(dataset: Path, files: Mapping[str, FileSeen]) -> tuple[Info | None, str]:
    if INFO not in files:
        return None, f"there is no {INFO}"
    try:
        with open_regular(dataset / INFO) as file:
            # One more than allowed shows that there is more, without reading it.
            encoded = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(encoded) > MAX_DOCUMENT_BYTES:
            return None, f"{INFO} has more than {MAX_DOCUMENT_BYTES} bytes"
        return msgspec.json.decode(encoded, type=Info), ""
    except RecursionError:
        return None, f"{INFO} can't be read: it nests too deeply"
    except (OSError, *DECODE_ERRORS) as error:
        return None, f"{INFO} can't be read (yet): {error}"


def _since_when(file: FileSeen, previous: DatasetSeen | None) -> FileSeen:
    """The same file with its `otherwise_ns`."""
    if previous is None:
        return file
    before = previous.files.get(file.path)
    is_same = before and (before.state, before.changed_ns) == (file.state, file.changed_ns)
    return replace(file, otherwise_ns=before.otherwise_ns if before and is_same else previous.looked_at_ns)


def _same(previous: DatasetSeen, files: Mapping[str, FileSeen]) -> bool:
    return {path: file.state for path, file in previous.files.items()} == {
        path: file.state for path, file in files.items()
    }


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
