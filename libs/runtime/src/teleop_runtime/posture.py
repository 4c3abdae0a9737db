"""Who may talk to this process at all: the local posture, and browsers of other sites."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import Scope
from teleop_schema.errors import Forbidden

from teleop_runtime.settings import Exposure


def check_access(scope: Scope, exposure: Exposure) -> None:
    """Raise Forbidden for a caller that the posture does not admit.

    local  only connections to a loopback address (or a Unix socket)
    both   no browser page of another site: its Origin must be the address it talks to
    """
    server = scope.get("server")
    if exposure == "local" and server and not _is_loopback(server[0]):
        raise Forbidden(
            "this backend takes connections from its own machine only",
            hint="to let robots of a network that you trust in, set LEROBOT_BACKEND_EXPOSURE=lab",
        )
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and urlsplit(origin).netloc != headers.get(b"host", b"").decode("latin-1"):
        raise Forbidden(f"pages of {origin} may not use this backend", field="Origin")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True  # a Unix socket's path, or the test client's name
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
