"""How many may try codes, in one process."""

import ipaddress
import time

from teleop_schema.errors import TooManyAttempts

MAX_APART = 10_000
# What one household or machine is given of IPv6.
NETWORK_BITS = 64


class Attempts:
    """Counts attempts by the minute."""

    def __init__(self, who: str) -> None:
        """
        who  can try it, for the error: "robots can try to join"
        """
        self._who = who
        self._minute = 0
        self._counts: dict[str, int] = {}

    def count(self, most: int, by: str = "") -> None:
        """Count one; raises TooManyAttempts beyond `most` in a minute.

        by  whose attempts are counted apart, by address; beyond MAX_APART, new ones are counted together
        """
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        by = by if by in self._counts or len(self._counts) < MAX_APART else ""
        self._counts[by] = self._counts.get(by, 0) + 1
        if self._counts[by] > most:
            raise TooManyAttempts(
                f"at most {most} {self._who} per minute", limit=most, hint="try again in a minute"
            )


def counted_as(address: str) -> str:
    """The address by which somebody is counted: of IPv6, whose networks have addresses for every attempt, the
    network; "" if there is none, as with a socket.
    """
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, NETWORK_BITS), strict=False))
    return str(getattr(known, "ipv4_mapped", None) or known)
