"""What reverse proxies say of a request that they pass on: who asked, and by which address; pure.

`X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`, or `Forwarded` (RFC 7239) where there is none of the first
three. Anybody can send such headers, so only those of known proxies count.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# All values of each header, by its name in lower case.
type Headers = Mapping[str, Sequence[str]]

_EACH = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
_PREFIX = "x-forwarded-prefix"
_STANDARD = "forwarded"
FORWARDED = (*_EACH, _PREFIX, _STANDARD)
# Whatever has one of these has come through a proxy; not every proxy sends one.
OF_PROXIES = (*FORWARDED, "via", "x-real-ip")
# In a request's scope: whether it has; and whether it has, or comes from the address of a proxy, where others
# may be, too.
PASSED_ON = "lerobot.passed_on"
THROUGH_PROXY = "lerobot.through_proxy"

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# A host and port as an address has them; and a path that needs no escapes.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){0,10}/?", re.ASCII)
# `for=192.0.2.60`, `for="[2001:db8::1]:4711"`
_PAIR = re.compile(r'\s*([A-Za-z]+)=("[^"\\]*"|[^\s;,"]*)\s*', re.ASCII)


@dataclass(frozen=True)
class Told:
    """What trusted proxies say; None where they say nothing, or nothing that can be used.

    client  address of the machine that asked
    scheme  http or https
    host    as the client wrote it, with its port
    prefix  what the proxy has removed in front of the path, without a slash at its end
    """

    client: str | None = None
    scheme: str | None = None
    host: str | None = None
    prefix: str = ""


def read_proxies(text: str) -> tuple[Network, ...]:
    """Networks of the trusted proxies: addresses and networks with commas or spaces between them.

    Raises ValueError naming the one that is neither.
    """
    networks: list[Network] = []
    for part in text.replace(",", " ").split():
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(f"{part!r} is not an address or network like 192.0.2.7 or 10.0.0.0/8") from error
    return tuple(networks)


def is_trusted(address: str, proxies: Iterable[Network]) -> bool:
    """Whether a machine is one of the proxies."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # As a socket for both kinds of addresses shows IPv4.
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in proxies)


def read_forwarded(headers: Headers, proxies: Sequence[Network]) -> Told:
    """What a trusted proxy's request says.

    The client is the last address that is not a proxy's: those before it could be made up. Where several
    proxies have each added a value, those of the proxy that this client has met count.
    """
    if any(name in headers for name in _EACH):
        clients, schemes, hosts = (_listed(headers.get(name, ())) for name in _EACH)
    else:
        clients, schemes, hosts = _standard(headers.get(_STANDARD, ()))
    clients = [_address(client) for client in clients]
    hops = 1
    # From the right: each proxy appends who has asked it, and only the last entries are of known ones.
    while hops < len(clients) and is_trusted(clients[-hops], proxies):
        hops += 1
    client, scheme, host = _at(clients, hops), _at(schemes, hops).lower(), _at(hosts, hops)
    prefix = "".join(headers.get(_PREFIX, ()))
    return Told(
        client=client or None,
        scheme=_SCHEMES.get(scheme),
        host=host if _HOST.fullmatch(host) else None,
        prefix=prefix.rstrip("/") if _PATH.fullmatch(prefix) else "",
    )


def _listed(values: Iterable[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _standard(values: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Clients, schemes and hosts of `Forwarded`, one of each for each proxy; empty where it says none."""
    elements = [
        {name.lower(): told.strip('"') for name, told in _PAIR.findall(element)}
        for element in _listed(values)
    ]
    clients, schemes, hosts = ([each.get(key, "") for each in elements] for key in ("for", "proto", "host"))
    return clients, schemes, hosts


def _address(client: str) -> str:
    """The address in `192.0.2.1:4711` or `[2001:db8::1]:4711`; "" if there is none (`unknown`)."""
    if client.startswith("["):
        client = client[1:].partition("]")[0]
    elif client.count(":") == 1:
        client = client.partition(":")[0]
    try:
        return str(ipaddress.ip_address(client))
    except ValueError:
        return ""


def _at(values: Sequence[str], hops: int) -> str:
    """The value of that proxy, from the right; of the first one if not every proxy has added one."""
    return values[-min(hops, len(values))] if values else ""
