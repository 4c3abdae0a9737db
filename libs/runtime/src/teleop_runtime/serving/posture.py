"""Who may connect to this process: the local posture, and browsers on pages of other sites."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.types import Scope
from teleop_schema.errors import Forbidden

from teleop_runtime.settings import Exposure

READING = ("GET", "HEAD", "OPTIONS")
PROXY_HINT = (
    "if this is the backend's own address, a proxy has changed `Host`: let it pass that on (in nginx: "
    "`proxy_set_header Host $http_host;`), or tell the backend with LEROBOT_BACKEND_PROXIES whom to believe"
)
HINT = "to accept robots on a network you trust, set LEROBOT_BACKEND_EXPOSURE=lab"


def check_access(scope: Scope, exposure: Exposure, any_origin: Sequence[str] = ()) -> None:
    """Raise Forbidden for a caller that the posture does not admit.

    local  only connections to a loopback address (or a Unix socket), under a name of this machine. A page of
           another site whose name was made to point here would use that name
    both   no pages of other sites: the Origin must be the address that the browser connects to. Addresses in
           `any_origin` are open to every page
    """
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", b"").decode("latin-1")
    server = scope.get("server")
    address = _ip_address(server[0]) if server else None
    if exposure == "local" and address is not None:
        if not address.is_loopback:
            raise Forbidden("this backend accepts connections from its own machine only", hint=HINT)
        if not _is_local_name(host):
            raise Forbidden(f"this backend is not {host[:100]!r}", field="Host", hint=HINT)
    if origin and _netloc(origin) != host and not _is_open(scope, any_origin):
        raise Forbidden(
            f"web pages of {origin[:100]!r} may not use this backend", field="Origin", hint=PROXY_HINT
        )


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


def _is_open(scope: Scope, any_origin: Sequence[str]) -> bool:
    return scope.get("method") in READING and scope["path"].startswith(tuple(any_origin))


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
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
