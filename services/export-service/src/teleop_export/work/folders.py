"""Where datasets are built and published: a finished one appears by one rename, or not at all."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from teleop_runtime.serving.app import unusable
from teleop_schema.errors import NoSpace

from teleop_export.errors import FolderUnusable
from teleop_export.planning.stages import SHORT_DIGITS

# As the store does: what is full to the brim takes PostgreSQL with it.
KEEP_FREE = 0.05
# A disk without room, or a quota of it that is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)
_DISCARDED = "discarded-"


class Folders:
    """Folders below one root, all on one filesystem. Every method blocks; CannotStart if there can be none.

    <root>/export-<id>-<fingerprint>-<database>  a published dataset
    <root>/.building/<id>-<attempt>-<database>   one that is being made
    <root>/.building/discarded-<random>          one that is being removed

    Several databases may use one root: each leaves alone, and never serves, what bears another one's name.
    """

    def __init__(self, root: Path, database: str) -> None:
        """
        database  a name that no other database has
        """
        self.root = root.absolute()
        self._database = database
        self._building = self.root / ".building"
        try:
            self._building.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(root, error, setting="EXPORT_ROOT") from error

    def check_space(self, size_bytes: int) -> None:
        """Raise NoSpace unless `size_bytes` fit with KEEP_FREE of the disk to spare; FolderUnusable."""
        try:
            disk = shutil.disk_usage(self.root)
        except OSError as error:
            raise _unusable(error) from error
        free = int(disk.free - KEEP_FREE * disk.total)
        if size_bytes > free:
            raise NoSpace(
                f"the dataset needs about {size_bytes} bytes, but the disk has room for {max(free, 0)}",
                limit=max(free, 0),
                hint="delete exports that are no longer needed",
            )

    def begin(self, export_id: int, attempt: int) -> Path:
        """A new, empty folder to build in; raises FolderUnusable."""
        folder = self._building / self._made(export_id, attempt)
        shutil.rmtree(folder, ignore_errors=True)
        self._make(folder)
        return folder

    def check_writable(self) -> None:
        """Raise FolderUnusable unless something can be built."""
        probe = self._building / f"{_DISCARDED}{uuid4().hex}"
        self._make(probe)
        shutil.rmtree(probe, ignore_errors=True)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir()
        except OSError as error:
            raise _unusable(error) from error

    def published(self, export_id: int, fingerprint: str) -> Path:
        """Where an export is served from once it is finished."""
        return self.root / f"export-{export_id}-{fingerprint[:SHORT_DIGITS]}-{self._database}"

    def kept(self) -> set[str] | None:
        """`<id>-<short fingerprint>` of what is published; None if the root is not there."""
        if not self._building.is_dir():
            return None
        start, end = "export-", f"-{self._database}"
        found = self.root.glob(f"{start}*{end}")
        return {path.name.removeprefix(start).removesuffix(end) for path in found if path.is_dir()}

    def has_lost(self, export_id: int, fingerprint: str) -> bool:
        """Whether a finished export has no folder, although the root is there."""
        return self._building.is_dir() and not self.published(export_id, fingerprint).is_dir()

    def publish(self, built: Path, published: Path, published_ns: int) -> None:
        """Move a finished folder, already on disk for good, to where it is served from.

        published_ns  what its files have as their time from now on, ns since the Unix epoch: whoever keeps
                      something by path and time, as `datasets` does, sees that they are others than before
        """
        for path in built.rglob("*"):
            os.utime(path, ns=(published_ns, published_ns))
        # Again, for the times. The contents are on the disk, so this takes little.
        make_durable(built)
        # Left by an attempt that was killed after its rename, before its row knew of it.
        self.discard(published)
        built.rename(published)
        _sync(self.root)

    def discard(self, folder: Path) -> None:
        """Take a folder out of sight at once, then remove it; nothing happens if there is none."""
        aside = self._building / f"{_DISCARDED}{uuid4().hex}"
        try:
            # A rename takes it out of sight in one step; removing hundreds of files may take a minute.
            folder.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    def erase(self, export_id: int, fingerprint: str) -> None:
        """Remove what was published of an export, and return once nothing is left; raises FolderUnusable.

        May be repeated, also after a process that did it was killed.
        """
        published = self.published(export_id, fingerprint)
        aside = self._building / f"{_DISCARDED}{published.name}"
        try:
            # Left by a process that was killed here.
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(FileNotFoundError):
                published.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            if aside.exists():
                raise OSError(errno.EACCES, f"{aside} can't be removed")
            _sync(self.root)
            _sync(self._building)
        except OSError as error:
            raise _unusable(error) from error

    def has_remains(self, export_ids: Collection[str]) -> bool:
        """Whether something of these exports is still being built, or anything is still being removed."""
        made = tuple(f"{export_id}-" for export_id in export_ids)
        return any(
            folder.name.startswith(made) if not folder.name.startswith(_DISCARDED) else any(folder.glob("*"))
            for folder in self.leftovers()
        )

    def leftovers(self) -> list[Path]:
        """What is being built for this database at this moment, and all that is being removed."""
        return [
            folder
            for folder in self._building.iterdir()
            if folder.name.endswith(f"-{self._database}") or folder.name.startswith(_DISCARDED)
        ]

    def sweep(self, folders: Iterable[Path], running: Iterable[tuple[int, int]]) -> None:
        """Remove those of `folders` (leftovers from before `running` was asked for) that nobody works on."""
        working = {self._made(export_id, attempt) for export_id, attempt in running}
        for folder in folders:
            if folder.name not in working:
                shutil.rmtree(folder, ignore_errors=True)

    def _made(self, export_id: int, attempt: int) -> str:
        return f"{export_id}-{attempt}-{self._database}"


def make_durable(folder: Path) -> None:
    """Return once every file below `folder` would survive a power loss."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(error: OSError) -> FolderUnusable:
    full = error.errno in FULL
    remedy = (
        "free some space on its disk"
        if full
        else "make the folder writable for the backend again (EXPORT_ROOT/.building)"
    )
    return FolderUnusable(
        f"the export folder can't be written: {error.strerror}",
        hint=f"{remedy}; nothing else needs to be done",
    )
