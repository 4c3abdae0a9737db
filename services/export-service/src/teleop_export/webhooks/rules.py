"""Where webhooks may go, how they are signed, when they are tried again. Pure."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import SplitResult, urlsplit

from teleop_schema.errors import BadInput

SETTING = "LEROBOT_BACKEND_WEBHOOKS"

# As Standard Webhooks proposes: about three days in all.
RETRY_AFTER_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_ATTEMPTS = 1 + len(RETRY_AFTER_S)
# Of Standard Webhooks: 24 to 64 bytes.
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105
PORTS = {"https": 443, "http": 80}

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

# They hold an IPv4 address, and reach it where the network translates.
_TRANSLATED = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"), ip_network("2002::/16"))


@dataclass(frozen=True)
class Allowed:
    """What an admin of the installation allows.

    names     hosts, in lower case; they may have addresses of the internet
    networks  in which hosts may also be addressed by number, by plain HTTP, and with private addresses
    """

    names: frozenset[str]
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, setting: str) -> Self:
        """As it is written: host names, addresses and networks, with commas or spaces between them.

        Raises ValueError for something else.
        """
        names, networks = set(), []
        for word in setting.replace(",", " ").split():
            try:
                networks.append(ip_network(word))
            except ValueError as error:
                if "/" in word or ":" in word or word.replace(".", "").isdigit():
                    raise ValueError(f"{word!r} is not a network, such as 192.168.1.0/24: {error}") from error
                names.add(word.lower().rstrip("."))
        return cls(frozenset(names), tuple(networks))

    def check_url(self, url: str) -> None:
        """Raise BadInput for an address that webhooks must not be sent to, whatever its name stands for."""
        parts = read_url(url)
        host = parts.hostname or ""
        address = _address_of(host)
        if address is None and host.rstrip(".") not in self.names:
            raise self._refused(f"{host} is not among the hosts that webhooks may be sent to")
        if address is not None and not self._holds(address):
            raise self._refused(f"{host} is not in a network that webhooks may be sent to")

    def check_address(self, address: Address, scheme: str) -> None:
        """Raise BadInput unless a connection to this address, which a host's name stands for, may be made."""
        if self._holds(address):
            return
        if not _is_public(address):
            raise self._refused(f"the host has the address {address}, which is not one of the internet")
        if scheme != "https":
            raise self._refused("plain http is only for networks that are named in the setting")

    def _holds(self, address: Address) -> bool:
        return any(_plain(address) in network for network in self.networks)

    def _refused(self, detail: str) -> BadInput:
        return BadInput(
            detail, field="url", hint=f"name its host or its network in {SETTING}, if it is meant"
        )


def read_url(url: str) -> SplitResult:
    """The parts of a receiver's address; raises BadInput for one that can't be one."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise BadInput("url has characters that no address has", field="url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"url is not an address: {error}", field="url") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise BadInput("url must begin with https:// and a host", field="url")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadInput("url must have neither a user's name nor a fragment", field="url")
    return parts


def _address_of(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_public(address: Address) -> bool:
    plain = _plain(address)
    translated = any(plain in network for network in _TRANSLATED)
    return plain.is_global and not plain.is_multicast and not translated


def chosen_address(found: Sequence[str], allowed: Allowed, scheme: str) -> str:
    """The first of the addresses that a name stands for; raises BadInput unless all of them are allowed."""
    for each in found:
        # A link-local one has its interface behind it.
        allowed.check_address(ip_address(each.partition("%")[0]), scheme)
    return found[0]


def make_secret() -> str:
    """A new key, as receivers configure it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(secret: str, delivery_id: str, sent_s: int, body: bytes) -> dict[str, str]:
    """The headers that tell a receiver who has sent `body`, and when (Standard Webhooks 1.0).

    secret  as make_secret gives it
    sent_s  seconds since the Unix epoch
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    content = f"{delivery_id}.{sent_s}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(sent_s),
        "webhook-signature": f"v1,{signature}",
    }


def retry_after_s(attempts: int) -> int | None:
    """How long to wait after so many attempts; None: it is given up."""
    return RETRY_AFTER_S[attempts - 1] if attempts < MAX_ATTEMPTS else None
