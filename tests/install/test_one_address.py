"""Every command takes the backend's address in the same ways, so that nobody has to look it up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

COMMANDS = Path(sys.executable).parent
# The port of a service that nobody runs.
NOBODY = "127.0.0.1:9"
# Each tries to reach the backend, and says at which address. Shippers are silent about an empty spool.
ASKING = {
    "export-to-dataset": ["--session_id", "1", "--repo_id", "lab/pick", "--root", "made"],
    "sync-agent": ["restore", "picking", "--into", "restored", "--robot_id", "robot_A"],
}
SHIPPERS = ("lerobot_robot_backend.shipper", "lerobot_robot_backend.video_shipper")
GIVEN = [
    (["--backend_url", f"ws://{NOBODY}"], {}),
    ([f"--backend-url=http://{NOBODY}/"], {}),
    ([], {"LEROBOT_BACKEND_URL": f"ws://{NOBODY}"}),
    ([], {"LEROBOT_BACKEND_URL": f"http://{NOBODY}"}),
]


def without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LEROBOT_BACKEND_")}


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        env=without_ours(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(("words", "variables"), GIVEN)
@pytest.mark.parametrize("command", ASKING)
def test_a_command_asks_where_it_is_sent(tmp_path, command, words, variables):
    """By flag, with `_` or `-`, or by variable; the address of robots, or that of a browser."""
    started = subprocess.Popen(
        [str(COMMANDS / command), *ASKING[command], *words],
        cwd=tmp_path,
        env=without_ours() | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    # It would go on trying for a minute.
    with started as process:
        assert process.stderr is not None
        told = next((line for line in process.stderr if "Connection refused" in line), "")
        process.kill()
    assert f"http://{NOBODY}" in told


@pytest.mark.parametrize("words", [words for words, variables in GIVEN if words])
@pytest.mark.parametrize("shipper", SHIPPERS)
def test_a_shipper_corrects_an_address(tmp_path, shipper, words):
    """Each stream knows its own, which the environment must not change."""
    (tmp_path / "spool").mkdir()
    ended = run([sys.executable, "-m", shipper, "--all", *words, "spool"], tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", [*ASKING, *SHIPPERS])
def test_what_is_not_an_address_is_refused(tmp_path, command):
    """With the same example everywhere."""
    start = [str(COMMANDS / command)] if command in ASKING else [sys.executable, "-m", command, "--all", "."]
    ended = run([*start, *ASKING.get(command, []), "--backend_url", "localhost:8000"], tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "expected an address like ws://localhost:8000 or http://localhost:8000" in ended.stderr
