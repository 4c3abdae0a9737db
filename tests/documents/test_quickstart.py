"""The commands of docs/quickstart.md do what it shows."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.machine.prepared import PreparedPython
from teleop_testing.waiting import PATIENCE_S

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"
BLOCK = re.compile(r"^```\n(\$ .*?)^```", re.MULTILINE | re.DOTALL)
# What differs from run to run: numbers, and where a home is.
DIFFERS = re.compile(r"…|~/\S+|\d[\d.,]*")
# Those of `make run`; the test's own backend has others.
FOLDERS = {"LEROBOT_BACKEND_DATA_DIR": "data", "LEROBOT_BACKEND_BACKUP_DIR": "lerobot_backup"}


def steps() -> list[tuple[str, list[str]]]:
    """Each command with the lines that the page shows of its output."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(BLOCK.findall(QUICKSTART.read_text())).splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line:
            found[-1][1].append(line)
    return found


def is_as_shown(printed: str, shown: list[str]) -> bool:
    """Whether the lines are in the output, in this order; others may lie between them."""
    lines = iter(printed.splitlines())
    return all(any(re.search(_pattern(line), each) for each in lines) for line in shown)


def _pattern(line: str) -> str:
    kinds = {"…": ".*", "~": r"\S+"}
    differing = [kinds.get(found[0], r"\d[\d.,]*") for found in DIFFERS.findall(line)]
    fixed = [re.escape(part) for part in DIFFERS.split(line)]
    return "".join(part for pair in zip(fixed, [*differing, ""], strict=True) for part in pair)


def test_every_command_prints_what_the_page_shows(
    backend: ServiceProcess,
    python: PreparedPython,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """From `make run`, for which the test's own backend stands, to the dataset and the list of sessions."""
    monkeypatch.chdir(tmp_path)
    for command, shown in steps():
        words = shlex.split(command.replace("localhost:8000", f"localhost:{backend.port}"))
        if words == ["make", "run"]:
            printed = backend.log.read_text()
            for name, usual in FOLDERS.items():
                printed = printed.replace(backend.environment[name], usual)
        elif words[0].startswith("lerobot-"):
            script = Path(environment["PATH"].partition(":")[0]) / words[0]
            printed = python.run([script, *words[1:]], environment).stdout
        else:
            done = subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            printed = done.stderr + done.stdout
            assert done.returncode == 0, printed
        assert is_as_shown(printed, shown), f"{command}:\n{printed}"


def test_output_that_differs_is_noticed():
    shown = ["1 episode, 180 frames at 60 fps in ~/.cache/x", "done"]
    assert is_as_shown("a\n1 episode, 7 frames at 30 fps in /home/me/x\nb\ndone\n", shown)
    assert not is_as_shown("1 episode, 7 rows at 30 fps in /home/me/x\ndone\n", shown)
    assert not is_as_shown("done\n1 episode, 7 frames at 30 fps in /home/me/x\n", shown)


@pytest.mark.parametrize("installed", sorted(set(re.findall(r"(?<= )\./[\w./-]+", QUICKSTART.read_text()))))
def test_what_is_installed_exists(installed: str):
    assert (QUICKSTART.parents[1] / installed / "pyproject.toml").exists()
