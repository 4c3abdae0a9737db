"""Environments of Python that contain what a test installs, made without a package index."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from teleop_testing.waiting import PATIENCE_S

# What an installer writes beside the files of a wheel.
_INSTALLER = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})


def new_environment(folder: Path) -> Path:
    """A virtual environment with pip and nothing else; returns its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=PATIENCE_S)
    return folder / "bin"


def needed_by(requirements: Iterable[str], *, without: Collection[str] = ()) -> dict[str, Distribution]:
    """What requirements need in turn, of what is installed here, by its canonical name.

    without  names that are left out
    raises   PackageNotFoundError if something of it is not installed here
    """
    found: dict[str, Distribution] = {}
    extras: dict[str, set[str]] = {}
    todo = [Requirement(each) for each in requirements]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in without or (name in found and wanted.extras <= extras[name]):
            continue
        found[name] = distribution(name)
        extras.setdefault(name, set()).update(wanted.extras)
        for line in found[name].requires or ():
            needed = Requirement(line)
            asked = ("", *extras[name])
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in asked):
                todo.append(needed)
    return found


def packed(installed: Distribution, folder: Path) -> Path:
    """The wheel that a distribution was installed from, made of its files; not that of an editable one."""
    tags = [line.split("-") for line in re.findall(r"^Tag: (.+)$", str(installed.read_text("WHEEL")), re.M)]
    tag = "-".join(".".join(sorted(set(parts))) for parts in zip(*tags, strict=True))
    wheel = folder / f"{canonicalize_name(installed.name).replace('-', '_')}-{installed.version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in installed.files or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts and file.name not in _INSTALLER:
                archive.write(file.locate(), str(file))
    return wheel


def linked(installed: Distribution, environment: Path) -> None:
    """Put the files of a distribution into an environment, as links to those here."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    for file in installed.files or ():
        if file.parts[0] == ".." or "__pycache__" in file.parts:
            continue
        link = packages / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(str(file.locate())).resolve())
