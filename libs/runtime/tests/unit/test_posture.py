"""Who is let in, and who is not."""

import socket

import pytest
from teleop_runtime.access.principal import THE_NETWORK, THIS_MACHINE
from teleop_runtime.proxies import PASSED_ON, THROUGH_PROXY
from teleop_runtime.serving import posture
from teleop_runtime.serving.posture import Pages, Posture, check_access
from teleop_runtime.settings import read_names, read_origins
from teleop_schema.errors import BadInput, Forbidden, HttpsNeeded, Unauthorized


def scope(**headers: str) -> dict:
    """A request with these headers."""
    return {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


OWN = 4711
# What the kernel says of the account at the other end.
ACCOUNTS = {"own": OWN, "root": 0, "other": OWN + 1, "unknown": None}


@pytest.fixture(autouse=True)
def _account(monkeypatch):
    """This process runs as OWN, and a connection tells its account; the kernel can tell it."""
    monkeypatch.setattr(posture.os, "geteuid", lambda: OWN)
    monkeypatch.setattr(posture, "can_tell_accounts", lambda: True)
    monkeypatch.setattr(posture, "account_of", lambda scope: ACCOUNTS[scope.get("account", "own")])


def caller(exposure="local", *, trusted=False, names=(), open_metrics=False, needs="read", **about):
    """Who sends such a request without a token."""
    headers = about.pop("headers", {"host": "localhost:8000"})
    connection = {"client": ("127.0.0.1", 5), **scope(**headers), **about}
    posture = Posture(exposure, trusted, frozenset(names), open_metrics)
    return posture.unknown_caller(connection, needs)


@pytest.mark.parametrize(
    "client", [("127.0.0.1", 5), ("127.1.2.3", 5), ("::1", 5), ("::ffff:127.0.0.1", 5), None]
)
@pytest.mark.parametrize("whose", ["own", "root"])
def test_local_posture_admits_its_own_account(client, whose):
    """And root, over loopback or a Unix socket."""
    assert caller(client=client, account=whose) is THIS_MACHINE


@pytest.mark.parametrize("whose", ["other", "unknown"])
def test_local_posture_asks_other_accounts_for_a_token(whose):
    """And whoever can't be told, who may be anybody; the hint names the command."""
    with pytest.raises(Unauthorized) as caught:
        caller(account=whose)
    assert "lerobot-backend tokens add <name> --role operator" in caught.value.hint
    assert caller(account=whose, trusted=True) is THE_NETWORK


def test_where_no_account_can_be_told_the_machine_is_admitted(monkeypatch):
    """A backend that nobody could use without a token would help nobody there; it says so at its start."""
    monkeypatch.setattr(posture, "can_tell_accounts", lambda: False)
    assert caller(account="unknown") is THIS_MACHINE
    with pytest.raises(Unauthorized):
        caller(account="unknown", client=("192.168.1.5", 5))


@pytest.mark.parametrize("client", ["192.168.1.5", "10.0.0.1", "::ffff:192.168.1.5", "fe80::1", "0.0.0.0"])
def test_local_posture_asks_other_machines_for_a_token(client):
    """Whatever account they have there, unless the network is trusted."""
    with pytest.raises(Unauthorized) as caught:
        caller(client=(client, 5))
    assert "lerobot-backend robots add" in caught.value.hint
    assert caller(client=(client, 5), trusted=True) is THE_NETWORK


def test_nobody_is_local_behind_a_proxy():
    """The account at the other end is that of the proxy."""
    with pytest.raises(Unauthorized, match="through a proxy"):
        caller(**{THROUGH_PROXY: True})


def test_lab_posture_asks_everybody():
    """Its own account, too."""
    with pytest.raises(Unauthorized):
        caller("lab")
    assert caller("lab", trusted=True) is THE_NETWORK


def asked(path="/sessions", *, scheme="http", headers=(), open_metrics=False, exposure="internet", **about):
    """Let the posture look at the way that such a request has come."""
    connection = {
        "client": ("203.0.113.9", 5),
        "path": path,
        "scheme": scheme,
        **scope(**dict(headers)),
        **about,
    }
    Posture(exposure, open_metrics=open_metrics).check_way(connection)


HERE = {"client": ("127.0.0.1", 5)}
SHOWN = {"authorization": "Bearer lrb_robot_x"}


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(
    "about",
    [
        *({}, {"client": ("192.168.1.5", 5)}, {"path": "/metrics"}, {"path": "/healthz", "headers": SHOWN}),
        # A proxy on the same machine, that says who has asked, or that does not.
        *({**HERE, PASSED_ON: True, THROUGH_PROXY: True}, {**HERE, THROUGH_PROXY: True, "account": "other"}),
        {"path": "/metrics", "open_metrics": True, "headers": SHOWN},
        {"path": "/metrics", "open_metrics": True, PASSED_ON: True, THROUGH_PROXY: True},
    ],
)
def test_on_the_internet_only_https_is_answered(scheme, about):
    """To whoever comes from elsewhere; the hint says what to do with a token that was sent."""
    with pytest.raises(HttpsNeeded) as caught:
        asked(scheme=scheme, **about)
    assert "revoke it" in caught.value.hint
    assert ("LEROBOT_BACKEND_PROXIES" in caught.value.hint) == about.get(THROUGH_PROXY, False)
    asked(scheme=scheme + "s", **about)
    asked(scheme=scheme, exposure="lab", **about)


@pytest.mark.parametrize(
    "about",
    [
        *({**HERE, "headers": SHOWN}, {"client": None}, {**HERE, "account": "other"}),
        {**HERE, THROUGH_PROXY: True, "account": "own"},
        *({"path": "/healthz"}, {"path": "/readyz", PASSED_ON: True}),
        {"path": "/metrics", "open_metrics": True},
    ],
)
def test_what_the_internet_posture_answers_without_https(about):
    """This machine's own programs, and probes that show no token; nobody is let in by that alone."""
    asked(**about)
    with pytest.raises(Unauthorized):
        caller("internet")


def test_metrics_may_be_open_to_who_connects_directly():
    """Nothing else is, and no page of another site reads them."""
    assert caller("lab", open_metrics=True, needs="metrics", client=("10.0.0.7", 5)).role == "metrics"
    # In the stack, all of its network counts as a proxy's.
    assert caller("lab", open_metrics=True, needs="metrics", **{THROUGH_PROXY: True}).role == "metrics"
    for refused in (
        {"needs": "read"},
        {"needs": "metrics", PASSED_ON: True},
        {"needs": "metrics", "open_metrics": False},
    ):
        with pytest.raises(Unauthorized):
            caller("lab", **{"open_metrics": True, **refused})
    with pytest.raises(Forbidden):
        caller("lab", open_metrics=True, needs="metrics", headers={"host": "evil.example"})


@pytest.mark.parametrize(("exposure", "trusted"), [("local", False), ("local", True), ("lab", True)])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[", "127.0.0.1.evil.example"]
)
def test_a_foreign_name_opens_nothing(exposure, trusted, host):
    """A page whose name was made to point here is of the same origin; the error names the setting."""
    with pytest.raises(Forbidden) as caught:
        caller(exposure, trusted=trusted, headers={"host": host})
    assert caught.value.field == "Host"
    assert "LEROBOT_BACKEND_NAMES" in caught.value.hint


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8000", "robots.localhost", "localhost.", "127.0.0.1:8000", "[::1]:8000"),
        *("192.168.1.5:8000", "robots.example.com", "Robots.Example.com:8443", socket.gethostname()),
        f"{socket.gethostname().partition('.')[0]}.local:8000",
    ],
)
def test_known_names(host):
    """localhost, addresses (no name can point to those), this machine, and what its operator has named."""
    assert caller(headers={"host": host}, names=["robots.example.com"]) is THIS_MACHINE


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "localhost"), ("host", "evil.example")],
        [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")],
        [("host", "evil.example@localhost")],
        [("host", "localhost, evil.example")],
        [("host", "localhost"), ("origin", "http://evil.example@localhost")],
    ],
)
def test_what_two_programs_could_read_differently_is_refused(headers):
    """Whoever sends it, with a token or without."""
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    with pytest.raises(BadInput) as caught:
        check_access({"headers": encoded, "method": "GET", "path": "/"})
    assert caught.value.field in ("Host", "Origin")


@pytest.mark.parametrize("wrong", ["http://x", "x:80", "-x", "x/y", "a@b", "."])
def test_what_is_no_name_is_named(wrong):
    """Neither a port nor a scheme belongs to it."""
    with pytest.raises(ValueError, match="is not the name of a host"):
        read_names(f"robots.example.com, {wrong}")
    assert read_names("Robots.example.com, other") == {"robots.example.com", "other"}


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:9999", "null", "http://[", "localhost:8000", "file://"],
)
def test_pages_of_other_sites_are_refused(origin):
    """A browser tells where a page came from; only this server's own pages may use it."""
    with pytest.raises(Forbidden) as caught:
        check_access(scope(host="localhost:8000", origin=origin))
    assert caught.value.field == "Origin"


def test_no_host_is_nobodys():
    """Not even that of a page without an origin."""
    with pytest.raises(Forbidden):
        check_access(scope(host="", origin="null"))


def test_own_pages_are_admitted():
    """The Origin of the server's own pages is its own address."""
    check_access(scope(host="localhost:8000", origin="http://localhost:8000"))
    check_access(scope(host="lab.example", origin="https://lab.example"))


VISUALIZER = Pages(frozenset({"https://visualizer.example"}), ("/hub/",))
FILE = "/hub/robot_A/ds/resolve/main/meta/info.json"


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
def test_chosen_pages_may_read_what_is_for_them(page):
    """Below the addresses for pages, and only there, and only read; with a script, or as a video."""

    def asks(method: str, path: str) -> dict:
        return {**scope(host="localhost:8000", **page), "method": method, "path": path}

    for method in ("GET", "HEAD", "OPTIONS"):
        check_access(asks(method, FILE), VISUALIZER)
    for method, path in [("POST", "/hub/robot_A"), ("GET", "/hubs"), ("GET", "/sessions")]:
        with pytest.raises(Forbidden):
            check_access(asks(method, path), VISUALIZER)
    with pytest.raises(Forbidden):
        check_access(asks("GET", FILE))


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
def test_other_pages_may_read_nothing(page):
    """Not even what they would only show, or load and measure."""
    for path in (FILE, "/sessions"):
        with pytest.raises(Forbidden):
            check_access({**scope(host="localhost:8000", **page), "method": "GET", "path": path}, VISUALIZER)


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
    check_access(asked)
    if headers.get("sec-fetch-site") == "cross-site":
        with pytest.raises(Forbidden):
            check_access({**asked, "method": "POST"})


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
