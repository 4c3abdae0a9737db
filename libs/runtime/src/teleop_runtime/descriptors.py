"""How many files and connections this process may have open."""

import resource
from collections import Counter
from collections.abc import Sequence

from teleop_schema.errors import TooManyConnections

from teleop_runtime.proxies import Network, is_trusted

# More than a server here ever needs. A hard limit may be a billion, and code that counts up to it is slow.
ENOUGH = 65_536
# Of the descriptors, what connections leave to files, the database and the kernel's other things.
FOR_CONNECTIONS = 0.75


def raise_limit() -> None:
    """Allow as many descriptors as the system lets this user have, up to ENOUGH; fewer are never allowed.

    The usual 1024 is meant for programs that use select(); a thousand robots are more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Room:
    """Counts a server's open connections, all and by the address that they come from.

    Without a limit, whoever opens connections and says nothing takes all descriptors, and with them the files
    and the database of everybody else.
    """

    def __init__(self, most: int, most_of_one: int, proxies: Sequence[Network] = ()) -> None:
        """
        most         connections in all; fewer if this process may not open so many files
        most_of_one  of one address; those of proxies are many clients'
        """
        self._most = most
        self._most_of_one = most_of_one
        self._proxies = proxies
        self._open = 0
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """Count a connection from there; raises TooManyConnections, and counts nothing, if there is no room.

        address  "" for a Unix socket
        """
        limit = self._limit()
        if self._open >= limit:
            raise TooManyConnections(f"{limit} connections are open", limit=limit)
        if self._by_address[address] >= self._most_of_one and not is_trusted(address, self._proxies):
            raise TooManyConnections(
                f"{self._most_of_one} connections from {address or 'this socket'} are open",
                limit=self._most_of_one,
                hint="LEROBOT_BACKEND_CONNECTIONS_PER_ADDRESS allows more",
            )
        self._open += 1
        self._by_address[address] += 1

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        self._open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _limit(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return self._most if soft == resource.RLIM_INFINITY else min(self._most, int(soft * FOR_CONNECTIONS))
