"""HTTPS with certificates of the stack's own authority."""

import ssl
from collections.abc import Iterator

import httpx
import pytest
from recorder import JOINED_FRAMES, join_and_record
from teleop_testing.waiting import PATIENCE_S


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
    session_id = join_and_record(stack.url, "robot_tls", line, tmp_path / "spool")
    authority = httpx.get(f"{stack.url}/authority", verify=False, timeout=PATIENCE_S)
    assert "alt-svc" not in authority.headers
    trust = ssl.create_default_context(cadata=authority.text)
    for host in (stack.address, stack.address.replace("127.0.0.1", "localhost")):
        found = httpx.get(f"https://{host}/sessions/{session_id}/ledger", verify=trust, timeout=PATIENCE_S)
        assert (found.json()["committed"], found.json()["complete"]) == (JOINED_FRAMES, True)
