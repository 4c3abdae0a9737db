"""The wheels that a release consists of, built into a folder: `python deploy/release/make_wheels.py dist`.

Each wheel has the version of the repository (`version` in its pyproject.toml), requires the others in exactly
that version, and contains the license. The same sources always give the same bytes: hatchling, whose version
is locked, writes one time and one order into all archives.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SUMS = "SHA256SUMS"
# What the folder of a package has besides its wheel's content.
LEFT_OUT = shutil.ignore_patterns("tests", "__pycache__", ".*", "*.egg-info", "dist", "node_modules")


def main() -> None:
    """Build them, and print their names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to put them; wheels that are there are removed")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.whl"), folder / SUMS]:
        old.unlink(missing_ok=True)
    if changed := changed_files():
        print(f"warning: these are not the wheels of a commit, for this is not committed:\n{changed}", end="")
    build(folder.resolve())
    wheels = sorted(folder.glob("*.whl"))
    sums = "".join(f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in wheels)
    (folder / SUMS).write_text(sums)
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 1000:7.0f} kB  {wheel}")


def packages() -> list[Path]:
    """Folders of the packages that users install, below the repository: all but the support of the tests."""
    workspace = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    return [Path(member) for member in workspace["members"] if not member.startswith("tests/")]


def build(folder: Path) -> None:
    """Build the wheel of every package in a copy of its sources, in which releases are made of them."""
    names = {package: _project(REPOSITORY / package)["name"] for package in packages()}
    version = _project(REPOSITORY)["version"]
    with tempfile.TemporaryDirectory() as copies:
        # The packages read their version there.
        shutil.copy(REPOSITORY / "pyproject.toml", copies)
        for package in names:
            copy = Path(copies, package)
            shutil.copytree(REPOSITORY / package, copy, ignore=LEFT_OUT)
            shutil.copy(REPOSITORY / "LICENSE", copy)
            _require_exactly(copy, set(names.values()), version)
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
            subprocess.run(command, cwd=copy, capture_output=True, check=True)


def _require_exactly(package: Path, ours: set[str], version: str) -> None:
    """Let a package require those of ours in one version: pip keeps an older one wherever it may."""
    path = package / "pyproject.toml"
    known = "|".join(map(re.escape, ours))
    text = re.sub(
        rf'^    "((?:{known})(?:\[[\w,]+\])?)",$', rf'    "\1=={version}",', path.read_text(), flags=re.M
    )
    path.write_text(text)
    for requirement in _project(package).get("dependencies", []):
        name, _, wanted = requirement.partition("==")
        if name.partition("[")[0] in ours and wanted != version:
            raise SystemExit(f"{path}: write {requirement!r} on a line of its own, without a version")


def _project(folder: Path) -> dict[str, object]:
    return dict(tomllib.loads((folder / "pyproject.toml").read_text())["project"])


def changed_files() -> str:
    """What git calls changed; nothing where the sources did not come with git."""
    command = ["git", "status", "--porcelain"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
