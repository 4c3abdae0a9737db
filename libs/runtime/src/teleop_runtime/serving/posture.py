"""Who may use this process without a token, and what browsers on pages of other sites may."""

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from starlette.types import Scope
from teleop_schema.errors import BadInput, Forbidden, HttpsNeeded, Unauthorized

from teleop_runtime.access.far_end import account_of, can_tell_accounts
from teleop_runtime.access.principal import A_MONITOR, THE_NETWORK, THIS_MACHINE, Principal
from teleop_runtime.access.roles import Exposure, Need
from teleop_runtime.logs import get_logger
from teleop_runtime.proxies import PASSED_ON, THROUGH_PROXY

log = get_logger(__name__)

READING = ("GET", "HEAD", "OPTIONS")
# Where a browser shows the answer to a navigation as a page of its own.
ALONE = ("document", "")
PROXY_HINT = (
    "if this is the backend's own address, a proxy has changed `Host`: let it pass that on (in nginx: "
    "`proxy_set_header Host $http_host;`), or tell the backend with LEROBOT_BACKEND_PROXIES whom to believe"
)
NAMES = "LEROBOT_BACKEND_NAMES"
SHOW = "send it as `Authorization: Bearer <token>`"
# Told to everybody: they say whether the backend works, and nothing that was recorded.
HEALTH = ("/healthz", "/readyz")
ON_THE_WAY = (
    "; a token that was sent so could be read on the way: revoke it (lerobot-backend tokens revoke), and "
    "make another one"
)
USE_HTTPS = "use the address that begins with https://" + ON_THE_WAY
LET_PROXY_SAY = (
    "if your proxy has received this by HTTPS, let it say so (`X-Forwarded-Proto: https`), and name its "
    "address in LEROBOT_BACKEND_PROXIES; otherwise, use the address that begins with https://" + ON_THE_WAY
)
GET_ONE = (
    "a robot joins with the line from `lerobot-backend robots add`; people sign in with a link from "
    "`lerobot-backend people add`; for other programs, `lerobot-backend tokens add` makes a token: "
    "export-to-dataset reads it in LEROBOT_BACKEND_TOKEN, others send `Authorization: Bearer <token>`"
)


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


@dataclass(frozen=True)
class Posture:
    """Who is let in without a token.

    exposure       local: the account that runs this process, and root, over loopback or a Unix socket; lab:
                   nobody; internet: nobody, and whatever comes from elsewhere without HTTPS is not answered
    trust_network  everybody who can connect
    names          by which this backend is known, besides those of this machine. The page of another site can
                   have its own name point here; then it is of the same origin, but it has no token
    open_metrics   whoever connects directly, and not through a proxy, may read what the server measures
    """

    exposure: Exposure
    trust_network: bool = False
    names: frozenset[str] = frozenset()
    open_metrics: bool = False

    def check_way(self, scope: Scope) -> None:
        """Raise HttpsNeeded for a request that others could have read on its way here, whatever it shows.

        It came by HTTPS if this process, or a proxy that it trusts, has received it so. What says whether
        the backend works is told to probes, which know no name of it, as long as they send no token.
        """
        if self.exposure != "internet" or scope["scheme"] in ("https", "wss") or self._from_here(scope):
            return
        open_metrics = self.open_metrics and scope["path"] == "/metrics" and not scope.get(PASSED_ON)
        sends_token = any(name == b"authorization" for name, _ in scope["headers"])
        if (scope["path"] in HEALTH or open_metrics) and not sends_token:
            return
        raise HttpsNeeded(hint=LET_PROXY_SAY if scope.get(THROUGH_PROXY) else USE_HTTPS)

    def unknown_caller(self, scope: Scope, needs: Need) -> Principal:
        """Whoever sends this request without a token; raises Unauthorized or Forbidden if that is needed."""
        reason = self._not_local(scope)
        if reason is None:
            caller = THIS_MACHINE
        elif self.trust_network:
            caller = THE_NETWORK
        elif self.open_metrics and needs == "metrics" and not scope.get(PASSED_ON):
            caller = A_MONITOR
        else:
            raise reason
        self._check_name(scope)
        return caller

    def tell(self) -> None:
        """Log what this machine keeps from being checked."""
        if self.exposure == "local" and not can_tell_accounts():
            log.warning(
                "accounts are not told apart",
                reason="this system does not say which account has opened a connection",
                hint="no account of this machine needs a token; LEROBOT_BACKEND_EXPOSURE=lab asks all for it",
            )

    def _from_here(self, scope: Scope) -> bool:
        """Whether a program of this machine asks for itself.

        Where a proxy runs on the same machine, whoever is not the account that runs this process, or root,
        may be that proxy, and pass on what others send without saying so.
        """
        address = _ip_address((scope.get("client") or ("",))[0])
        if scope.get(PASSED_ON) or (address is not None and not address.is_loopback):
            return False
        return not scope.get(THROUGH_PROXY) or account_of(scope) in (0, os.geteuid())

    def _not_local(self, scope: Scope) -> Unauthorized | None:
        """Why a caller is not let in as the account that runs this process."""
        if self.exposure != "local":
            return Unauthorized("this backend serves nobody without a token", hint=GET_ONE)
        if scope.get(THROUGH_PROXY):
            return Unauthorized("this backend serves nobody without a token through a proxy", hint=GET_ONE)
        address = _ip_address((scope.get("client") or ("",))[0])
        if address is not None and not address.is_loopback:
            return Unauthorized("this backend serves no other machine without a token", hint=GET_ONE)
        if not can_tell_accounts():
            return None
        account = account_of(scope)
        if account in (0, os.geteuid()):
            return None
        who = "an account that can't be told" if account is None else f"account {account} of this machine"
        mine = f"account {os.geteuid()}, which runs it, and root"
        return Unauthorized(
            f"this backend does not serve {who} without a token, only {mine}",
            hint="get a token from that account: lerobot-backend tokens add <name> --role operator; and "
            f"{SHOW}",
        )

    def _check_name(self, scope: Scope) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = _hostname(host).rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or _ip_address(name) is not None:
            return
        if name not in self.names and name not in machine_names():
            raise Forbidden(
                f"without a token, this backend is not served as {host[:100]!r}",
                field="Host",
                hint=f"if that is its name, add it to {NAMES}; with a token, any name will do",
            )


def machine_names() -> frozenset[str]:
    """Those of this machine, in lower case, without asking anybody else."""
    whole = socket.gethostname().lower()
    first = whole.partition(".")[0]
    return frozenset({whole, first, f"{first}.local"} - {"", ".local"})


def check_access(scope: Scope, pages: Pages = NO_PAGES) -> None:
    """Raise Forbidden for pages of other sites, but for what they may read of `pages`; BadInput if the
    request gives several addresses of this backend, or several pages.

    The Origin must be the address that the browser connects to, and what has no Origin (a picture in a page,
    a frame, a form that asks with GET) must not come from another site, as browsers tell it (Fetch Metadata).
    Links to the backend work.
    """
    _check_once(scope)
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", b"").decode("latin-1")
    site = headers.get(b"sec-fetch-site", b"none").decode("latin-1")
    if pages.may_read(scope):
        return
    # What a page without an origin of its own says ("null") has no address.
    if origin and (not host or _netloc(origin) != host):
        raise Forbidden(
            f"web pages of {origin[:100]!r} may not use this backend", field="Origin", hint=PROXY_HINT
        )
    if site not in ("same-origin", "none") and not _is_link(scope, headers):
        raise Forbidden("web pages of other sites may not use this backend", field="Sec-Fetch-Site")


def _check_once(scope: Scope) -> None:
    """Programs that read such a request differently would not agree on who may do what."""
    for name in (b"host", b"origin"):
        told = [value for key, value in scope["headers"] if key == name]
        if len(told) > 1 or any(b"@" in value or b"," in value for value in told):
            raise BadInput(
                "a request must name one address, without a user's name",
                field=name.decode().capitalize(),
            )


def _is_link(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a person follows a link, and will see the answer instead of the other site's page."""
    goes = headers.get(b"sec-fetch-mode") == b"navigate" and scope.get("method") in ("GET", "HEAD")
    return goes and headers.get(b"sec-fetch-dest", b"").decode("latin-1") in ALONE


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
