"""Finds dataset folders."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from teleop_schema.identifiers import MAX_NAME_PARTS

from teleop_dataset.folder import INFO

# Folders that contain no datasets: huggingface_hub's own, and the receipts of uploads.
_NOT_LOOKED_INTO = frozenset({"hub", "lost+found"})
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class LinkedDataset(OSError):
    """A dataset behind a symbolic link, which is not followed; `target` is the linked folder."""

    def __init__(self, link: Path, target: Path) -> None:
        what = f"a symbolic link to the dataset {target}, which is not followed: watch {target.parent}"
        super().__init__(errno.ELOOP, what, str(link))
        self.target = target


class InfoMissing(OSError):
    """A folder that is laid out as a dataset, but does not say what is in it."""

    def __init__(self, folder: Path) -> None:
        what = (
            f"it has the files of a dataset, but no {INFO}: put one of the same recording there, "
            f"or run `sync-agent repair {folder} --info FILE`"
        )
        super().__init__(errno.ENOENT, what, str(folder))


def find_datasets(root: Path, refused: Callable[[OSError], None] = lambda _error: None) -> Iterator[Path]:
    """Every folder at or below `root` that has a `meta/info.json`, of whatever version; sorted.

    Does not search datasets, hidden folders, `hub` and `lost+found`; searches MAX_NAME_PARTS deep, as deep as
    names allow.

    refused  called with the error of each folder that can't be read, because it may contain datasets; with
             LinkedDataset for a link to one, InfoMissing for one without `meta/info.json`
    """
    yield from _find(root, MAX_NAME_PARTS, refused)


def _find(folder: Path, depth: int, refused: Callable[[OSError], None]) -> Iterator[Path]:
    try:
        if _is_file(folder / INFO):
            # A dataset contains no dataset, so this is not searched any deeper.
            yield folder
            return
        with os.scandir(folder) as entries:
            looked_into = [entry for entry in entries if depth and not _is_passed_by(entry.name)]
        below = sorted(entry.name for entry in looked_into if entry.is_dir(follow_symlinks=False))
        links = [Path(entry.path) for entry in looked_into if entry.is_symlink()]
        if "data" in below and any((folder / "data").glob("chunk-*")):
            refused(InfoMissing(folder))
    except OSError as error:
        if error.errno not in _NOT_THERE:
            refused(error)
        return
    for link in links:
        with suppress(OSError):  # it leads nowhere, or to a folder that can't be read
            if _is_file(link / INFO):
                refused(LinkedDataset(link, link.resolve()))
    for name in below:
        yield from _find(folder / name, depth - 1, refused)


def _is_passed_by(name: str) -> bool:
    return name.startswith(".") or name in _NOT_LOOKED_INTO


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise
