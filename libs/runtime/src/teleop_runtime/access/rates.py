"""How many requests somebody may make. Pure: whoever asks says what time it is."""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from teleop_schema.errors import RateLimited

# What one household or machine is given of IPv6.
NETWORK_BITS = 64


@dataclass(frozen=True)
class Rate:
    """A limit.

    per_s  requests in a second, for as long as one likes
    burst  requests at once, after a pause
    """

    per_s: float
    burst: int


# Of one token or person, so that none keeps a service from the others: on two cores, a connection gets 2,700
# answers of `GET /me` a second. Our own programs take a whole dataset, or export, in one request.
CALLER_PER_SECOND, CALLER_BURST = 200, 2000
# Of one address, without a token or with one that is not known: nobody who has one comes near it. Each costs
# the database a look.
STRANGER_PER_SECOND, STRANGER_BURST = 10, 1000
# Callers, addresses, and known tokens that are remembered: each takes a few hundred bytes, and whoever was
# silent for longest is forgotten first.
MAX_REMEMBERED = 10_000

# A log line for each request that is refused would be a second flood.
TELL_EVERY_S = 60.0
OF_CALLER = "come from this caller"
OF_STRANGER = "come from this address without a token that is known"


class Buckets:
    """A bucket for each, which a request takes from and time fills. A bucket that nobody knows is full."""

    def __init__(self, rate: Rate, most: int = MAX_REMEMBERED) -> None:
        self.rate = rate
        self._most = most
        # When each will be full again, s; in the order in which they were last taken from.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def wait_s(self, who: Hashable, now_s: float) -> float:
        """Seconds until the bucket has enough for a request; 0: it has."""
        full_at = max(self._full_at.get(who, now_s), now_s)
        return max(0.0, full_at - now_s - (self.rate.burst - 1) / self.rate.per_s)

    def take(self, who: Hashable, now_s: float) -> float:
        """Take a request out of the bucket; seconds to wait instead, if there is not enough in it."""
        wait_s = self.wait_s(who, now_s)
        if wait_s == 0:
            self._full_at[who] = max(self._full_at.get(who, now_s), now_s) + 1 / self.rate.per_s
            self._full_at.move_to_end(who)
            if len(self._full_at) > self._most:
                # Whoever was forgotten has a full bucket: of many strangers none is wronged.
                self._full_at.popitem(last=False)
        return wait_s


class RateLimits:
    """The limits of one server. Every method that counts raises RateLimited where there is too much."""

    def __init__(self) -> None:
        self._callers = Buckets(Rate(CALLER_PER_SECOND, CALLER_BURST))
        self._strangers = Buckets(Rate(STRANGER_PER_SECOND, STRANGER_BURST))
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._told_at_s = -TELL_EVERY_S

    def check_shown(self, shown: bytes, address: str, now_s: float) -> None:
        """Before the database is asked about a token or session: few unknown ones may come from there.

        One that was known before may be asked about all the same: a robot may share its address with somebody
        who guesses.

        shown  hash of what is shown
        """
        if shown not in self._known:
            self._refuse(self._strangers.wait_s(address, now_s), self._strangers, OF_STRANGER)

    def note_known(self, shown: bytes) -> None:
        """The database knows this token or session."""
        self._known[shown] = None
        self._known.move_to_end(shown)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def count_stranger(self, address: str, now_s: float) -> None:
        """Somebody there has shown nothing that lets them in."""
        self._refuse(self._strangers.take(address, now_s), self._strangers, OF_STRANGER)

    def count(self, caller: Hashable, now_s: float) -> None:
        """A request of somebody who is let in."""
        self._refuse(self._callers.take(caller, now_s), self._callers, OF_CALLER)

    def is_news(self, now_s: float) -> bool:
        """Whether nobody was told for TELL_EVERY_S that something was refused; somebody is told now."""
        is_news = now_s - self._told_at_s >= TELL_EVERY_S
        self._told_at_s = now_s if is_news else self._told_at_s
        return is_news

    def _refuse(self, wait_s: float, buckets: Buckets, whose: str) -> None:
        if wait_s > 0:
            raise RateLimited(
                f"more than {buckets.rate.per_s:g} requests a second {whose}",
                limit=buckets.rate.per_s,
                hint="wait as long as Retry-After says, and then ask less often",
                retry_after_s=math.ceil(wait_s),
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
        # A household has 2^64 addresses, so counting each would limit nobody.
        return str(ipaddress.ip_network((known, NETWORK_BITS), strict=False))
    return str(getattr(known, "ipv4_mapped", None) or known)
