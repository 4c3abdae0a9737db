"""The wheels that a release consists of: complete, always the same, and the client really installed."""

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from teleop_backend.console import BUILT
from teleop_testing.machine.environments import needed_by, new_environment, packed
from teleop_testing.waiting import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
# What people install; the others come with them.
INSTALLED = {
    "lerobot-backend",
    "lerobot-robot-backend",
    "lerobot-backend-sync-agent",
    "lerobot-backend-client",
}
# A training machine often is a container that is made again for each run.
CLIENT_MAX_MB = 25
# Exit status of export-to-dataset while nobody answers at the address.
TRY_LATER = 75
# They import these only where the package that has them is installed with ours: LeRobot on the robot PC.
HOSTS = {"lerobot_robot_backend": {"lerobot", "torch"}, "lerobot_robot_virtual": {"lerobot"}}


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def requirements_of(wheel: Path) -> list[Requirement]:
    return [Requirement(line) for line in metadata_of(wheel).get_all("Requires-Dist") or []]


@pytest.fixture(scope="session")
def names(wheels) -> set[str]:
    return {canonicalize_name(metadata_of(wheel)["Name"]) for wheel in wheels}


def test_the_same_sources_give_the_same_bytes(wheels, made_again):
    assert [each.name for each in wheels] == [each.name for each in made_again]
    assert [each.read_bytes() for each in wheels] == [each.read_bytes() for each in made_again]


def test_all_have_one_version_and_require_each_other_in_it(wheels, names):
    """pip upgrades a package and keeps what it needs, wherever it may."""
    assert names >= INSTALLED
    assert {metadata_of(wheel)["Version"] for wheel in wheels} == {VERSION}
    for wheel in wheels:
        ours = [each for each in requirements_of(wheel) if canonicalize_name(each.name) in names]
        assert {str(each.specifier) for each in ours} <= {f"=={VERSION}"}, wheel.name


@pytest.mark.skipif(not (BUILT / "index.html").exists(), reason="the page has not been built: make console")
def test_the_server_brings_its_page(wheels):
    """All parts of it, so that who installs a release needs no Node."""
    (server,) = [each for each in wheels if each.name.startswith("lerobot_backend-")]
    with zipfile.ZipFile(server) as archive:
        for path in (each for each in BUILT.rglob("*") if each.is_file()):
            assert archive.read(f"teleop_backend/page/{path.relative_to(BUILT)}") == path.read_bytes()


def test_none_takes_a_major_version_that_nobody_has_tried(wheels, names):
    """huggingface_hub 2 fails otherwise than 1 does; a release must install in a year as it does today."""
    unbounded = {
        str(each)
        for wheel in wheels
        for each in requirements_of(wheel)
        if canonicalize_name(each.name) not in names and "<" not in {part.operator for part in each.specifier}
    }
    assert unbounded == set()


def test_an_index_can_show_what_each_of_them_is(wheels):
    """Without addresses, because none is known."""
    for wheel in wheels:
        about = metadata_of(wheel)
        assert about["License-Expression"] == "Apache-2.0"
        assert about["License-File"] == "LICENSE"
        assert about["Requires-Python"] == ">=3.12"
        assert about["Summary"]
        assert about["Description-Content-Type"] == "text/markdown"
        assert len(str(about.get_payload())) > 100
        assert {"Programming Language :: Python :: 3.12", "Typing :: Typed"} <= set(
            about.get_all("Classifier")
        )
        with zipfile.ZipFile(wheel) as archive:
            assert [each for each in archive.namelist() if each.endswith("/licenses/LICENSE")]


def imports_of(source: str) -> Iterator[str]:
    """The top of every module that a file imports, but for those that only type checkers read."""
    tree = ast.parse(source)
    checked = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_each_of_them_names_what_it_imports(wheels):
    """Otherwise it would work only as long as something else brings it along."""
    # Editable installs, as ours are here, do not tell their modules.
    homes = {**packages_distributions(), **{top_of(wheel): [metadata_of(wheel)["Name"]] for wheel in wheels}}
    for wheel in wheels:
        named = {name for each in requirements_of(wheel) for name in brought_by(each)}
        known = set(sys.stdlib_module_names) | {top_of(wheel)} | HOSTS.get(top_of(wheel), set())
        imported = {module for source in sources_of(wheel) for module in imports_of(source)}
        unnamed = {
            module
            for module in imported - known
            if not named & {canonicalize_name(each) for each in homes.get(module, [])}
        }
        assert unnamed == set(), wheel.name


def brought_by(requirement: Requirement) -> Iterator[str]:
    """What a requirement names: a package, and what its extras are."""
    yield canonicalize_name(requirement.name)
    for line in (distribution(requirement.name).requires or []) if requirement.extras else []:
        needed = Requirement(line)
        if needed.marker and any(needed.marker.evaluate({"extra": each}) for each in requirement.extras):
            yield canonicalize_name(needed.name)


def sources_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [archive.read(each).decode() for each in archive.namelist() if each.endswith(".py")]


def top_of(wheel: Path) -> str:
    """The module that a wheel of ours is."""
    with zipfile.ZipFile(wheel) as archive:
        (top,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" not in name}
    return top


def test_the_client_is_small_and_runs(wheels, names, tmp_path, monkeypatch):
    """In an environment that has nothing else, without an index."""
    client = next(wheel for wheel in wheels if wheel.name.startswith("lerobot_backend_client-"))
    house = tmp_path / "wheelhouse"
    house.mkdir()
    third_party = [str(each) for each in requirements_of(client) if canonicalize_name(each.name) not in names]
    schema = next(wheel for wheel in wheels if wheel.name.startswith("lerobot_backend_schema-"))
    third_party += [str(each) for each in requirements_of(schema) if each.marker is None]
    for needed in needed_by(third_party).values():
        packed(needed, house)
    # Byte code counts as a part of what is installed.
    for variable in ("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"):
        monkeypatch.delenv(variable, raising=False)
    commands = new_environment(tmp_path / "empty")
    (packages,) = (tmp_path / "empty").glob("lib/python3.*/site-packages")
    before = size_of(packages)
    pip = [commands / "pip", "--disable-pip-version-check", "--isolated"]
    places = ["--no-index", "--find-links", house, "--find-links", client.parent]
    subprocess.run([*pip, "install", "-q", *places, "lerobot-backend-client"], check=True, timeout=PATIENCE_S)
    subprocess.run([*pip, "check"], check=True, timeout=PATIENCE_S)
    assert size_of(packages) - before <= CLIENT_MAX_MB * 1_000_000
    asked = subprocess.run(
        [commands / "export-to-dataset", "--session-id=1", "--repo_id=lab/pick", "--root", tmp_path / "made"],
        env=os.environ | {"LEROBOT_BACKEND_URL": "ws://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert asked.returncode == TRY_LATER, asked.stderr
    assert "cannot reach the backend: http://127.0.0.1:9" in asked.stderr


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
