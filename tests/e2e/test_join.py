"""A robot PC at a backend that lets nobody in without a token."""

import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from lerobot_robot_backend.client import TelemetryClient
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.robots.spooled import JOINTS, log_frames
from teleop_testing.waiting import PATIENCE_S, wait_for

TLS = {"LEROBOT_BACKEND_TLS": "127.0.0.1"}
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(
    params=[
        pytest.param({}, marks=pytest.mark.long("the same without HTTPS")),
        TLS,
    ],
    ids=["http", "https"],
)
def backend(request: pytest.FixtureRequest) -> Iterator[ServiceProcess]:
    """The whole backend as one process, as if the robot were on another machine."""
    with (
        tempfile.TemporaryDirectory(prefix="backend-") as folder,
        whole_backend(folder, LEROBOT_BACKEND_EXPOSURE="lab", **request.param) as process,
    ):
        yield process


@pytest.fixture
def on_server(backend: ServiceProcess) -> Callable[..., str]:
    """Runs a command of the backend's owner; returns what it printed."""

    def run(*words: str) -> str:
        command = [PROGRAMS / "lerobot-backend", *words]
        done = subprocess.run(
            command, env=backend.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def on_robot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs sync-agent on a robot PC with settings of its own, which this process's recordings share."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("LEROBOT_BACKEND_URL", "LEROBOT_BACKEND_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [PROGRAMS / "sync-agent", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)

    return run


def trust(backend: ServiceProcess) -> ssl.SSLContext:
    """As somebody does who has downloaded the authority's certificate."""
    if not backend.url.startswith("https"):
        return ssl.create_default_context()
    found = httpx.get(f"{backend.url}/authority", verify=False, timeout=PATIENCE_S)
    return ssl.create_default_context(cadata=found.text)


def recorder(url: str, folder: Path, *, ship: bool = True) -> TelemetryClient:
    """A session of robot_A, with its spool in the test's folder."""
    return TelemetryClient(
        url,
        "robot_A",
        state_names=JOINTS,
        action_names=JOINTS,
        fps=60,
        spool_dir=folder / "spool",
        min_free_bytes=0,
        ship=ship,
    )


def test_a_robot_joins_loses_its_token_and_joins_again(backend, on_server, on_robot, tmp_path):
    """Whatever it records without a token waits, and says why; nothing is started again."""
    url = backend.url

    def join() -> None:
        line = on_server("robots", "add", "robot_A", "--server", url).splitlines()[0]
        joined = on_robot("join", line)
        assert joined.returncode == 0, joined.stderr
        assert f"robot_A may send to {url.replace('http', 'ws')} now" in joined.stdout
        again = on_robot("join", line)
        assert again.returncode == 1
        assert "did not let this robot join: " in again.stderr

    client = recorder(url, tmp_path)
    with client:
        log_frames(client, 60)
        # Who has not joined knows neither a token nor who signs the certificate.
        before = (
            "certificate is not trusted"
            if url.startswith("https")
            else "401: this backend serves nobody without a token"
        )
        wait_for(lambda: before in str(client.progress.trouble))
        assert "robots add" in str(client.progress.trouble)
        join()
        (credentials,) = (tmp_path / "config").rglob("credentials")
        assert credentials.stat().st_mode & 0o777 == 0o600
        wait_for(lambda: client.acknowledged == 60)
        assert client.progress.trouble is None
        token = re.search(r"lrb_robot_\w+", credentials.read_text())
        assert token is not None
        on_server("tokens", "revoke", token[0][:16])
        wait_for(lambda: "was revoked" in str(client.progress.trouble))
        log_frames(client, 60)
        wait_for(lambda: client.logged == 120)
        assert client.acknowledged == 60
        join()
        wait_for(lambda: client.acknowledged == 120)
    assert client.drain(timeout_s=PATIENCE_S) == 120
    reader = on_server("tokens", "add", "anna", "--role", "viewer").strip()
    headers = {"Authorization": f"Bearer {reader}"}
    ledger = httpx.get(
        f"{url}/sessions/{client.session_id}/ledger",
        headers=headers,
        timeout=PATIENCE_S,
        verify=trust(backend),
    ).json()
    assert (ledger["committed"], ledger["complete"]) == (120, True)
    log = backend.log.read_text()
    assert token[0] not in log
    assert reader not in log


@pytest.mark.parametrize("backend", [TLS], indirect=True)
def test_the_agent_sends_with_the_same_token(backend, on_server, on_robot, tmp_path):
    """It waits without one, and says why; with it, everything is safe."""
    url = backend.url
    (tmp_path / "outputs").mkdir()
    client = recorder(url, tmp_path, ship=False)
    with client:
        log_frames(client, 60)
    once = ["once", "--backend_url", url, "--robot_id", "robot_A", "--timeout", "2"]
    once += ["--watch", str(tmp_path / "outputs"), "--spool", str(tmp_path / "spool")]
    refused = on_robot(*once)
    assert refused.returncode != 0
    told = "certificate is not trusted" if url.startswith("https") else "serves nobody without a token"
    assert told in refused.stderr
    line = on_server("robots", "add", "robot_A", "--server", url).splitlines()[0]
    assert on_robot("join", line).returncode == 0
    sent = on_robot(*once)
    assert sent.returncode == 0, sent.stderr
    assert client.progress.ended


@pytest.mark.long("three backends, one after the other")
@pytest.mark.parametrize("backend", [TLS], indirect=True)
def test_another_backend_in_its_place_gets_nothing(backend, on_server, on_robot, tmp_path):
    """Its certificate is of another authority: until the right one is back, nothing is sent."""
    line = on_server("robots", "add", "robot_A").splitlines()[0]
    assert line.startswith(f"lrbs://{backend.address}/?code=")
    pin = line.partition("&pin=")[2]
    another = line.replace(pin, pin[::-1])
    refused = on_robot("join", another)
    assert refused.returncode == 1
    assert "is not the backend that this line is from" in refused.stderr
    assert on_robot("join", line).returncode == 0
    authority = Path(backend.environment["LEROBOT_BACKEND_DATA_DIR"]) / "authority"
    client = recorder(backend.url, tmp_path)
    with client:
        log_frames(client, 60)
        wait_for(lambda: client.acknowledged == 60)
        backend.stop()
        authority.rename(authority.with_name("kept"))
        backend.start()
        log_frames(client, 60)
        wait_for(lambda: "certificate is not trusted" in str(client.progress.trouble))
        assert client.acknowledged == 60
        backend.stop()
        shutil.rmtree(authority)
        authority.with_name("kept").rename(authority)
        backend.start()
    assert client.drain(timeout_s=PATIENCE_S) == 120


@pytest.mark.parametrize("backend", [TLS], indirect=True)
def test_robots_of_a_fleet_join_by_themselves(backend, on_server, on_robot, tmp_path, monkeypatch):
    """The line is in the settings of their image; it works once for each, however often it is used."""
    said = on_server("robots", "pool", "add", "arms", "--prefix", "robot_", "--server", backend.url)
    line = said.splitlines()[0]
    for _ in range(2):
        joined = on_robot("join", line, "--robot-id", "robot_C")
        assert joined.returncode == 0, joined.stderr
        assert "robot_C may send to" in joined.stdout
    assert on_server("tokens", "list").count("robot_C") == 2  # its name, and its robots
    (credentials,) = (tmp_path / "config").rglob("credentials")
    assert {path.stat().st_mode & 0o777 for path in credentials.parent.iterdir()} == {0o600}
    taken = on_robot("join", line, "--robot-id", "robot_D")
    assert taken.returncode == 0, taken.stderr
    credentials.with_name("asked").unlink()
    credentials.unlink()
    taken = on_robot("join", line, "--robot-id", "robot_D")
    assert taken.returncode == 1
    assert "there is a robot robot_D already" in taken.stderr
    monkeypatch.setenv("LEROBOT_BACKEND_JOIN", line)
    monkeypatch.setenv("LEROBOT_BACKEND_ROBOT_ID", "robot_A")
    (tmp_path / "outputs").mkdir()
    client = recorder(backend.url, tmp_path, ship=False)
    with client:
        log_frames(client, 60)
    folders = ["--watch", str(tmp_path / "outputs"), "--spool", str(tmp_path / "spool")]
    agent = subprocess.Popen([PROGRAMS / "sync-agent", "run", *folders], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: client.progress.ended)
    finally:
        agent.terminate()
        _, log = agent.communicate(timeout=PATIENCE_S)
    assert b"lrb_" not in log
    assert agent.returncode == 0


@pytest.mark.parametrize("backend", [TLS], indirect=True)
def test_a_robot_asks_and_an_admin_approves(backend, on_server, on_robot, tmp_path):
    """Both see the code and the pin; nothing comes in before, and whoever is denied hears it."""
    words = ["join", backend.url, "--robot_id", "robot_A", "--ask"]
    for decision, status in (("deny", 1), ("approve", 0)):
        asking = subprocess.Popen(
            [PROGRAMS / "sync-agent", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert asking.stdout is not None
        shown = ""
        for line in asking.stdout:
            shown += line
            if line.startswith("on the server"):
                break
        [code] = re.findall(r"code  (\S+)", shown)
        there = on_server("robots", "waiting")
        assert f"{code}  robot_A" in there
        if backend.url.startswith("https"):
            [pin] = re.findall(r"pin   (\S+)", shown)
            assert pin in there
        on_server("robots", decision, code)
        told, error = asking.communicate(timeout=PATIENCE_S)
        assert asking.returncode == status, error
        assert ("an admin has denied" in error) == (decision == "deny")
    assert "robot_A may send to" in told
    client = recorder(backend.url, tmp_path)
    with client:
        log_frames(client, 60)
    assert client.drain(timeout_s=PATIENCE_S) == 60


def test_a_line_for_nobody(on_robot):
    """A backend that is not there is named, and nothing is kept."""
    told = on_robot("join", "lrb://127.0.0.1:1/?code=K7QF-2M9P")
    assert told.returncode == 75
    assert "ws://127.0.0.1:1 did not let this robot join" in told.stderr
    nameless = on_robot("join", "lrb://127.0.0.1:1/?pool=lrb_pool_x")
    assert nameless.returncode == 2
    assert "which robot is this?" in nameless.stderr
    away = on_robot("join", "http://127.0.0.1:1", "--ask", "--robot_id", "robot_A")
    assert away.returncode == 75
    wrong = on_robot("join", "http://127.0.0.1:1/")
    assert wrong.returncode == 2
    assert "is not an enrolment line" in wrong.stderr
