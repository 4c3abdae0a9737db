"""Who is let in, and who is not."""

import pytest
from teleop_runtime.serving.posture import check_access, is_loopback_host
from teleop_schema.errors import Forbidden


def scope(server: str | None = "127.0.0.1", **headers: str) -> dict:
    """A connection that came in at `server`."""
    return {
        "server": server and (server, 8000),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


@pytest.mark.parametrize(
    "server", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "/run/backend.sock", None]
)
@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "robots.localhost"])
def test_local_posture_admits_its_own_machine(server, host):
    """Whoever comes over loopback or a Unix socket, by a name of this machine, is let in."""
    check_access(scope(server, host=host), "local")


@pytest.mark.parametrize("server", ["192.168.1.5", "10.0.0.1", "::ffff:192.168.1.5", "fe80::1", "0.0.0.0"])
def test_local_posture_refuses_the_network(server):
    """A connection that came in at another address of this machine is refused, with the way out."""
    with pytest.raises(Forbidden) as caught:
        check_access(scope(server, host="localhost"), "local")
    assert "LEROBOT_BACKEND_EXPOSURE=lab" in caught.value.hint
    check_access(scope(server, host="localhost"), "lab")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[", "10.0.0.1"]
)
def test_local_posture_refuses_other_names_of_itself(host):
    """A foreign name that was made to point at this machine does not open it to that name's pages."""
    with pytest.raises(Forbidden) as caught:
        check_access(scope(host=host), "local")
    assert caught.value.field == "Host"


@pytest.mark.parametrize("exposure", ["local", "lab"])
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:9999", "null", "http://[", "localhost:8000", "file://"],
)
def test_pages_of_other_sites_are_refused(exposure, origin):
    """A browser tells where a page came from; only this server's own pages may use it."""
    with pytest.raises(Forbidden) as caught:
        check_access(scope(host="localhost:8000", origin=origin), exposure)
    assert caught.value.field == "Origin"


def test_own_pages_are_admitted():
    """The Origin of the server's own pages is its own address."""
    check_access(scope(host="localhost:8000", origin="http://localhost:8000"), "local")
    check_access(scope("10.0.0.1", host="lab.example", origin="https://lab.example"), "lab")


def test_loopback_hosts():
    """What a server may listen on to be reached from its own machine only."""
    assert all(map(is_loopback_host, ["127.0.0.1", "::1", "localhost"]))
    assert not any(map(is_loopback_host, ["0.0.0.0", "::", "192.168.1.5", "example.com"]))


@pytest.mark.parametrize("exposure", ["local", "lab"])
def test_pages_of_other_sites_may_read_what_is_open_to_them(exposure):
    """Below the addresses that are open to any page, they may read, and only there, and only read."""

    def asks(method: str, path: str) -> dict:
        asked = scope(host="localhost:8000", origin="https://visualizer.example")
        return {**asked, "method": method, "path": path}

    for method in ("GET", "HEAD", "OPTIONS"):
        check_access(asks(method, "/hub/robot_A/ds/resolve/main/meta/info.json"), exposure, ["/hub/"])
    for method, path in [("POST", "/hub/robot_A"), ("GET", "/hubs"), ("GET", "/sessions")]:
        with pytest.raises(Forbidden):
            check_access(asks(method, path), exposure, ["/hub/"])
    with pytest.raises(Forbidden):
        check_access(asks("GET", "/hub/robot_A"), exposure)
