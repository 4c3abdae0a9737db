"""Where datasets are built and published: a finished one appears by one rename, or not at all."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from teleop_runtime.app import unusable
from teleop_runtime.ownership import check_owner
from teleop_schema.errors import NoSpace

KEEP_FREE = 0.05


class Folders:
    """Folders below one root, all on one filesystem. Every method blocks; CannotStart if there can be none.

    <root>/export-<id>-<fingerprint>     a published dataset
    <root>/.building/<id>-<attempt>      one that is being made
    <root>/.building/discarded-<random>  one that is being removed
    <root>/.owner                        the name of the database whose datasets these are
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._building = self.root / ".building"
        try:
            self._building.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(root, error, setting="EXPORT_ROOT") from error

    def claim(self, database: str, *, knows_exports: bool) -> None:
        """Let the folders be this database's from now on; raises CannotStart if they are another's."""
        note = self.root / ".owner"
        owner = note.read_text("ascii").strip() if note.exists() else None
        strange = not knows_exports and any(self.root.glob("export-*"))
        check_owner(str(self.root), owner, database, strange=strange, setting="EXPORT_ROOT")
        if owner is None:
            made = self._building / f"discarded-{uuid4().hex}"
            made.write_text(f"{database}\n", "ascii")
            _sync(made)
            made.replace(note)
            _sync(self.root)

    def check_space(self, size_bytes: int) -> None:
        """Raise NoSpace unless `size_bytes` fit with KEEP_FREE of the disk to spare."""
        disk = shutil.disk_usage(self.root)
        free = int(disk.free - KEEP_FREE * disk.total)
        if size_bytes > free:
            raise NoSpace(
                f"the dataset takes about {size_bytes} bytes, the disk has room for {max(free, 0)}",
                limit=max(free, 0),
                hint="delete exports that are no longer needed",
            )

    def begin(self, export_id: int, attempt: int) -> Path:
        """A new, empty folder to build in."""
        folder = self._building / f"{export_id}-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def published(self, export_id: int, fingerprint: str) -> Path:
        return self.root / f"export-{export_id}-{fingerprint[:12]}"

    def publish(self, built: Path, published: Path) -> None:
        """Move a finished folder, already on disk for good, to where it is served from."""
        self.discard(published)
        built.rename(published)
        _sync(self.root)

    def discard(self, folder: Path) -> None:
        """Take a folder out of sight at once, then remove it; nothing happens if there is none."""
        aside = self._building / f"discarded-{uuid4().hex}"
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    def leftovers(self) -> list[Path]:
        """Everything being built or removed at this moment, by whomever."""
        return list(self._building.iterdir())

    def sweep(self, folders: Iterable[Path], running: Iterable[tuple[int, int]]) -> None:
        """Remove those of `folders` (leftovers from before `running` was asked for) that nobody works on."""
        working = {f"{export_id}-{attempt}" for export_id, attempt in running}
        for folder in folders:
            if folder.name not in working:
                shutil.rmtree(folder, ignore_errors=True)


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
