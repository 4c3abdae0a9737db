"""Which account is at the other end of a connection, as the kernel tells it.

A Unix socket tells it itself. Of a connection over loopback, both ends are sockets of this machine, and the
kernel knows whose: it is asked for the socket whose own address is our peer's. An exact question takes 10 us;
the table of all sockets, which says the same where the kernel takes no questions, takes a millisecond.
"""

import functools
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h, include/net/tcp_states.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
LISTENING = 10
NO_COOKIE = 0xFFFF_FFFF
HEADER = struct.Struct("=IHHII")
# Family, protocol, extensions, padding, states; then the ports, the addresses, the interface and the cookie.
QUESTION = struct.Struct("=BBBBI")
PORTS = struct.Struct("!HH")
ENDS = struct.Struct("=16s16sIII")
# Family, state, timer, retransmissions, the socket as above; then expiry, two queues, uid, inode.
FOUND = struct.Struct("=BBBB48sIIIII")
# One socket, in hundreds of bytes, and what later kernels add to it.
ANSWER_BYTES = 8192
# The kernel answers at once; without a limit, a lost answer would hold the request forever.
ANSWER_WITHIN_S = 1.0
# What the kernel says of an account that this process's user namespace has no number for.
UNMAPPED = 65_534
ALL_ACCOUNTS = ["0", "0", "4294967295"]
# Of a line of /proc/net/tcp: own address, other address, state, uid, inode.
OWN, OTHER, STATE, UID, INODE = 1, 2, 3, 7, 9

# What a server tells its application of each connection, in `extensions` of the scope.
FAR_END = "lerobot.far_end"

type Address = tuple[str, int]
# The socket with this address of its own, and this one at its other end; None if there is none.
type Teller = Callable[[Address, Address], Found | None]


class Found(NamedTuple):
    """A socket. Once its process has closed it, it has no inode, and the uid is said to be 0: root's."""

    uid: int
    inode: int


class FarEnd:
    """The other end of one connection."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    @functools.cached_property
    def uid(self) -> int | None:
        """Its account; None if that can't be told: another machine's, another system's, or already closed."""
        try:
            uid = self._told()
        except OSError:
            return None
        return None if uid == UNMAPPED and not _knows_all_accounts() else uid

    def _told(self) -> int | None:
        if sys.platform != "linux":
            return None
        if self._line.family == socket.AF_UNIX:
            credentials = self._line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            _, uid, _ = struct.unpack("3i", credentials)
            return int(uid)
        tell = teller()
        theirs, ours = (_plain(end()) for end in (self._line.getpeername, self._line.getsockname))
        if tell is None or not _is_loopback(theirs[0]):
            return None
        uid = _uid_told_by(tell, theirs, ours)
        # Still connected: otherwise the socket that was found may be the next one with the same port.
        self._line.getpeername()
        return uid


def account_of(scope: Mapping[str, Any]) -> int | None:
    """The account at the other end of a request's connection; None if that can't be told."""
    far_end: FarEnd | None = scope.get("extensions", {}).get(FAR_END)
    return None if far_end is None else far_end.uid


def can_tell_accounts() -> bool:
    """Whether the kernel says to this process whose a connection over loopback is."""
    return teller() is not None


@functools.cache
def teller() -> Teller | None:
    """The cheapest way that tells this process's own account of a connection that it makes itself."""
    if sys.platform != "linux":
        return None
    for tell in (ask_kernel, read_tables):
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname()) as connection,
        ):
            if _uid_told_by(tell, connection.getsockname(), connection.getpeername()) == os.geteuid():
                return tell
    return None


def _uid_told_by(tell: Teller, own: Address, other: Address) -> int | None:
    found = tell(own, other)
    if found is None or not found.inode:
        return None
    if found.uid == 0:
        # The socket may have been closed between the two values; it did not when it still has an inode now.
        again = tell(own, other)
        return 0 if again is not None and again.inode else None
    return found.uid


def ask_kernel(own: Address, other: Address) -> Found | None:
    """The TCP socket between two addresses, by one question for just this one; raises OSError.

    Sockets of IPv6 that speak IPv4 are found by their IPv4 addresses.
    """
    family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET
    ends = [socket.inet_pton(family, address).ljust(16, b"\0") for address, _ in (own, other)]
    ports = PORTS.pack(own[1], other[1])
    question = QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, NO_COOKIE) + ports
    question += ENDS.pack(*ends, 0, NO_COOKIE, NO_COOKIE)
    head = HEADER.pack(HEADER.size + len(question), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as line:
        line.settimeout(ANSWER_WITHIN_S)
        line.sendto(head + question, (0, 0))
        answer = line.recv(ANSWER_BYTES)
    if HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None
    _, state, _, _, ends_told, _, _, _, uid, inode = FOUND.unpack_from(answer, HEADER.size)
    # Without a connection, the kernel names whoever listens on the port.
    return None if state == LISTENING or ends_told[: PORTS.size] != ports else Found(uid, inode)


def read_tables(own: Address, other: Address) -> Found | None:
    """The same, out of the tables of all sockets; raises OSError."""
    versions = [(own[0], other[0])]
    if ":" not in own[0]:
        # A socket of IPv6 that speaks IPv4 is in the table of IPv6.
        versions.append((f"::ffff:{own[0]}", f"::ffff:{other[0]}"))
    for here, there in versions:
        name = "tcp6" if ":" in here else "tcp"
        table = Path("/proc/self/net", name).read_text("ascii")
        found = find_in_table(table, (here, own[1]), (there, other[1]))
        if found is not None:
            return found
    return None


def find_in_table(table: str, own: Address, other: Address) -> Found | None:
    """The socket between two addresses in the text of /proc/net/tcp or tcp6."""
    here, there = _as_in_table(own), _as_in_table(other)
    for line in table.splitlines()[1:]:
        if here in line:
            words = line.split()
            if (words[OWN], words[OTHER]) == (here, there) and int(words[STATE], 16) != LISTENING:
                return Found(int(words[UID]), int(words[INODE]))
    return None


def _as_in_table(end: Address) -> str:
    """`0100007F:1F40`: words of 32 bits in this machine's order of bytes, and the port as a number."""
    family = socket.AF_INET6 if ":" in end[0] else socket.AF_INET
    packed = socket.inet_pton(family, end[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"


def _plain(end: tuple[str, int]) -> Address:
    """IPv4 as such where a socket of IPv6 speaks it."""
    address = ipaddress.ip_address(end[0].partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address), end[1]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _knows_all_accounts() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text("ascii").split() == ALL_ACCOUNTS
    except OSError:
        return False
