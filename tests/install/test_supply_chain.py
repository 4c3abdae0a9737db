"""What is installed is what was locked: by its hash, wherever it comes from."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Ours, from this checkout or from wheels that were just made of it.
OWN = re.compile(r"--no-index|--find-links|\s-e\s|addprefix -e|pip wheel .*--no-index")
INSTALLS = re.compile(r"pip (install|wheel)\b")
PLACES = ["Makefile", "deploy/setup/Dockerfile", "deploy/image/Dockerfile", *ROOT.glob("deploy/image/*.sh")]


def commands(text: str) -> list[str]:
    """Commands of a shell, a Dockerfile or make, each in one line."""
    whole = text.replace("\\\n", " ")
    return [line for line in whole.splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: Path(place).name)
def test_nothing_is_installed_without_its_hash(place):
    """Whatever is not our own."""
    found = [line.strip() for line in commands((ROOT / place).read_text()) if INSTALLS.search(line)]
    assert [line for line in found if "--require-hashes" not in line and not OWN.search(line)] == []


def test_there_is_something_to_look_at():
    """The places name commands that install."""
    texts = [(ROOT / place).read_text() for place in PLACES]
    assert sum(len(INSTALLS.findall(text)) for text in texts) >= 8


def test_every_requirement_has_a_hash():
    """In each of the files, and none is of an address."""
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        entries = re.split(r"\n(?=\S)", file.read_text().strip())
        entries = [entry for entry in entries if not entry.startswith("#")]
        assert entries, file
        assert [entry for entry in entries if "--hash=sha256:" not in entry or "://" in entry] == [], file
