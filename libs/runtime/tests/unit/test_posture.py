"""Who is let in, and who is not."""

import pytest
from teleop_runtime.serving.posture import Pages, check_access, is_loopback_host
from teleop_runtime.settings import read_origins
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


VISUALIZER = Pages(frozenset({"https://visualizer.example"}), ("/hub/",))
FILE = "/hub/robot_A/ds/resolve/main/meta/info.json"


@pytest.mark.parametrize("exposure", ["local", "lab"])
@pytest.mark.parametrize(
    "page",
    [
        {"origin": "https://visualizer.example"},
        {
            "referer": "https://visualizer.example/",
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "no-cors",
        },
    ],
)
def test_chosen_pages_may_read_what_is_for_them(exposure, page):
    """Below the addresses for pages, and only there, and only read; with a script, or as a video."""

    def asks(method: str, path: str) -> dict:
        return {**scope(host="localhost:8000", **page), "method": method, "path": path}

    for method in ("GET", "HEAD", "OPTIONS"):
        check_access(asks(method, FILE), exposure, VISUALIZER)
    for method, path in [("POST", "/hub/robot_A"), ("GET", "/hubs"), ("GET", "/sessions")]:
        with pytest.raises(Forbidden):
            check_access(asks(method, path), exposure, VISUALIZER)
    with pytest.raises(Forbidden):
        check_access(asks("GET", FILE), exposure)


@pytest.mark.parametrize("exposure", ["local", "lab"])
@pytest.mark.parametrize(
    "page",
    [
        {"origin": "https://other.example"},
        {"origin": "https://visualizer.example.other.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"referer": "https://other.example/", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_pages_may_read_nothing(exposure, page):
    """Not even what they would only show, or load and measure."""
    for path in (FILE, "/sessions"):
        with pytest.raises(Forbidden):
            check_access(
                {**scope(host="localhost:8000", **page), "method": "GET", "path": path}, exposure, VISUALIZER
            )


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": "http://localhost:8000"},
        {"sec-fetch-mode": "cors"},
    ],
)
def test_links_own_pages_and_programs_are_let_in(headers):
    """A link of a chat, an address that somebody types, the backend's own pages, Node's fetch."""
    asked = {**scope(host="localhost:8000", **headers), "method": "GET", "path": "/sessions"}
    check_access(asked, "local")
    if headers.get("sec-fetch-site") == "cross-site":
        with pytest.raises(Forbidden):
            check_access({**asked, "method": "POST"}, "local")


@pytest.mark.parametrize(
    "text", ["localhost:3000", "http://x/", "http://X", "*", "null", "ftp://x", "http://"]
)
def test_what_is_no_origin_is_named(text):
    """Browsers send neither a path nor capitals."""
    with pytest.raises(ValueError, match="is not an origin like"):
        read_origins(f"http://localhost:3000, {text}")
    assert read_origins("http://localhost:3000, https://[::1]:4") == {
        "http://localhost:3000",
        "https://[::1]:4",
    }
