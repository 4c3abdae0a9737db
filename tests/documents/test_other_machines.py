"""From nothing to a robot on another machine that streams: the commands of the README, one by one.

And those of the quickstart, to a dataset on a third machine.
"""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lerobot_robot_backend.client import TelemetryClient
from teleop_backend.addresses import addresses_for
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.robots.spooled import JOINTS, log_frames
from teleop_testing.waiting import PATIENCE_S

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
HEADING = "## Robots on other machines"
QUICKSTART = (Path(__file__).parents[2] / "docs/quickstart.md").read_text("utf-8")
# As many as a newcomer types at most, before the robot's own.
MOST_COMMANDS = 3
FRAMES = 120


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """The README's, without what it says beside them."""
    [block] = re.findall(rf"^{HEADING}\n```\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip() for line in block.splitlines()]


@pytest.fixture
def server(commands: list[str]) -> Iterator[ServiceProcess]:
    """The first command, in a folder of its own."""
    setting, start = commands[0].split(" && ")
    assert start == "make run"
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        subprocess.run(["bash", "-c", setting], cwd=folder, check=True, timeout=PATIENCE_S)
        settings = dict(line.split("=") for line in Path(folder, ".env").read_text().split())
        with whole_backend(folder, **settings) as process:
            yield process


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own, without any token."""
    for name in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    for name in ("LEROBOT_BACKEND_URL", "LEROBOT_BACKEND_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("robot")
def test_three_commands_let_a_robot_in(commands, server, environment, tmp_path):
    """Before them it gets nothing; with them every frame arrives, and the quickstart's token exports them."""
    _, address = addresses_for("0.0.0.0")
    if not re.fullmatch(r"[0-9.]+", address):
        pytest.skip("this machine has no network")
    assert len(commands) <= MOST_COMMANDS
    url = f"http://{address}:{server.port}"
    assert httpx.get(f"{url}/sessions", timeout=PATIENCE_S).status_code == 401

    def run(command: str, **settings: str) -> str:
        words = shlex.split(command)
        words[0] = Path(words[0]).name
        ours = {name: value for name, value in server.environment.items() if name.startswith("LEROBOT_")}
        done = subprocess.run(
            words,
            env={**environment, **ours, **settings, "XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"]},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = run(commands[1]).splitlines()[0]
    assert printed.startswith(f"lrb://{address}:{server.port}/?code=")
    program, example = shlex.split(commands[2])[:-1], shlex.split(commands[2])[-1]
    assert re.sub(r"//.*code=.*", "", printed) == re.sub(r"//.*code=.*", "", example)
    run(shlex.join([*program, printed]))
    with TelemetryClient(
        url.replace("http", "ws"),
        "robot_A",
        state_names=JOINTS,
        action_names=JOINTS,
        fps=60,
        spool_dir=tmp_path / "spool",
        min_free_bytes=0,
    ) as client:
        log_frames(client, FRAMES)
    assert client.drain(timeout_s=PATIENCE_S) == FRAMES
    here = f"http://{server.address}/sessions/{client.session_id}/ledger"
    ledger = httpx.get(here, timeout=PATIENCE_S).json()
    assert (ledger["complete"], ledger["committed"]) == (True, FRAMES)
    assert set(commands[:2]) < set(quickstart_commands())
    making = next(command for command in quickstart_commands() if " tokens add " in command)
    exporting = ["export-to-dataset", "--backend_url", url, "--session_id", str(client.session_id)]
    exporting += ["--repo_id", "lab/pick", "--root", str(tmp_path / "made")]
    run(shlex.join(exporting), LEROBOT_BACKEND_TOKEN=run(making).strip())
    assert (tmp_path / "made/meta/info.json").exists()


def quickstart_commands() -> list[str]:
    """What the page has people type where the machines are three."""
    [section] = re.findall(r"^### If the others.*?^## ", QUICKSTART, re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip() for line in section.splitlines()]
