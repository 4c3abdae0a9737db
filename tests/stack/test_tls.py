"""HTTPS with certificates of the stack's own authority."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lerobot_robot_backend.client import TelemetryClient
from teleop_testing.robots.spooled import JOINTS, log_frames
from teleop_testing.waiting import PATIENCE_S

AGENT = Path(sys.executable).parent / "sync-agent"


@pytest.fixture
def by_tls(stack) -> Iterator[None]:
    """The stack's proxy with LEROBOT_BACKEND_TLS, as it was afterwards."""
    stack.environment["LEROBOT_BACKEND_TLS"] = "127.0.0.1"
    stack.up()
    yield
    del stack.environment["LEROBOT_BACKEND_TLS"]
    stack.up()


def test_a_robot_joins_and_records(stack, by_tls, tmp_path, monkeypatch):
    """By the pin in its line; whoever has not joined trusts nobody there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    module = ["exec", "-T", "telemetry-service", "python", "-m", "teleop_telemetry.access"]
    line = stack.compose(*module, "robots", "add", "robot_tls").splitlines()[0]
    assert line.startswith(f"lrbs://{stack.address}/?code=")
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{stack.url}/readyz", timeout=PATIENCE_S)
    joined = subprocess.run(
        [AGENT, "join", line], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert joined.returncode == 0, joined.stderr
    client = TelemetryClient(
        stack.url,
        "robot_tls",
        state_names=JOINTS,
        action_names=JOINTS,
        fps=60,
        spool_dir=tmp_path / "spool",
        min_free_bytes=0,
    )
    with client:
        log_frames(client, 120)
    assert client.drain(timeout_s=PATIENCE_S) == 120
    authority = httpx.get(f"{stack.url}/authority", verify=False, timeout=PATIENCE_S)
    trust = ssl.create_default_context(cadata=authority.text)
    for host in (stack.address, stack.address.replace("127.0.0.1", "localhost")):
        found = httpx.get(
            f"https://{host}/sessions/{client.session_id}/ledger", verify=trust, timeout=PATIENCE_S
        )
        assert (found.json()["committed"], found.json()["complete"]) == (120, True)
