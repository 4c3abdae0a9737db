"""Who may connect to this process: the local posture, and browsers on pages of other sites."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from starlette.types import Scope
from teleop_schema.errors import Forbidden

from teleop_runtime.settings import Exposure

READING = ("GET", "HEAD", "OPTIONS")
# Where a browser shows the answer to a navigation as a page of its own.
ALONE = ("document", "")
PROXY_HINT = (
    "if this is the backend's own address, a proxy has changed `Host`: let it pass that on (in nginx: "
    "`proxy_set_header Host $http_host;`), or tell the backend with LEROBOT_BACKEND_PROXIES whom to believe"
)
HINT = "to accept robots on a network you trust, set LEROBOT_BACKEND_EXPOSURE=lab"


@dataclass(frozen=True)
class Pages:
    """Web pages of other sites that may read something.

    origins     theirs, `http://localhost:3000`
    beginnings  of the addresses that they may read, `/hub/`
    """

    origins: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()

    def may_read(self, scope: Scope) -> bool:
        """Whether the request is one that such a page may send."""
        reading = scope.get("method") in READING and scope["path"].startswith(self.beginnings)
        return reading and origin_of(dict(scope["headers"])) in self.origins


def origin_of(headers: Mapping[bytes, bytes]) -> str:
    """Origin of the page that sends a request, "" if none does.

    A browser sends no `Origin` with what a page only shows, like a video: then its `Referer` says it.
    """
    if origin := headers.get(b"origin"):
        return origin.decode("latin-1")
    parts = _split(headers.get(b"referer", b"").decode("latin-1"))
    return f"{parts.scheme}://{parts.netloc}" if parts and parts.netloc else ""


NO_PAGES = Pages()


def check_access(scope: Scope, exposure: Exposure, pages: Pages = NO_PAGES) -> None:
    """Raise Forbidden for a caller that the posture does not admit.

    local  only connections to a loopback address (or a Unix socket), under a name of this machine. A page of
           another site whose name was made to point here would use that name
    both   no pages of other sites, but for what they may read of `pages`: the Origin must be the address that
           the browser connects to, and what has no Origin (a picture in a page, a frame, a form that asks
           with GET) must not come from another site, as browsers tell it (Fetch Metadata). Links to the
           backend work
    """
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", b"").decode("latin-1")
    site = headers.get(b"sec-fetch-site", b"none").decode("latin-1")
    server = scope.get("server")
    address = _ip_address(server[0]) if server else None
    if exposure == "local" and address is not None:
        if not address.is_loopback:
            raise Forbidden("this backend accepts connections from its own machine only", hint=HINT)
        if not _is_local_name(host):
            raise Forbidden(f"this backend is not {host[:100]!r}", field="Host", hint=HINT)
    if pages.may_read(scope):
        return
    if origin and _netloc(origin) != host:
        raise Forbidden(
            f"web pages of {origin[:100]!r} may not use this backend", field="Origin", hint=PROXY_HINT
        )
    if site not in ("same-origin", "none") and not _is_link(scope, headers):
        raise Forbidden("web pages of other sites may not use this backend", field="Sec-Fetch-Site")


def check_listening(host: str, exposure: Exposure, variable: str) -> None:
    """Raise ValueError, naming the environment variable, for a host the posture must not listen on."""
    if exposure == "local" and not is_loopback_host(host):
        raise ValueError(
            f"{variable} {host} would accept connections from "
            "other machines; if you want that, set LEROBOT_BACKEND_EXPOSURE=lab"
        )


def is_loopback_host(host: str) -> bool:
    """Whether a server that listens on `host` can be reached only from its own machine."""
    address = _ip_address(host)
    return host == "localhost" if address is None else address.is_loopback


def _is_link(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a person follows a link, and will see the answer instead of the other site's page."""
    goes = headers.get(b"sec-fetch-mode") == b"navigate" and scope.get("method") in ("GET", "HEAD")
    return goes and headers.get(b"sec-fetch-dest", b"").decode("latin-1") in ALONE


def _is_local_name(host: str) -> bool:
    name = _hostname(host)
    address = _ip_address(name)
    return name == "localhost" or name.endswith(".localhost") or (address is not None and address.is_loopback)


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for a Unix socket's path, or a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str | None:
    parts = _split(origin)
    return None if parts is None else parts.netloc


def _split(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:
        return None
