"""A way to a database whose packets can be dropped, as where its host loses power or a firewall forgets it.

A relay that reads and throws away is no such way: its kernel goes on saying that all has arrived.
"""

import ctypes
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

PIECE_BYTES = 64 * 1024
# Of the Linux headers asm-generic/socket.h and linux/filter.h: a filter that keeps nothing of any packet. TCP
# looks at none that it drops.
_SO_ATTACH_FILTER = 26
_BPF_RETURN = 0x06
_KEEP_NOTHING = struct.pack("=HBBI", _BPF_RETURN, 0, 0, 0)


class VanishingHost:
    """Passes bytes between clients of `port` and a PostgreSQL on a socket of this machine."""

    def __init__(self, database_url: str) -> None:
        about = conninfo_to_dict(database_url)
        self._upstream = str(Path(str(about["host"])) / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._sockets = [self._listener]
        self.port: int = self._listener.getsockname()[1]
        self.url = f"postgresql://{about['user']}@127.0.0.1:{self.port}/{about['dbname']}"
        threading.Thread(target=self._accept, name="vanishing host", daemon=True).start()

    def forget(self) -> None:
        """Drop all further packets of the connections that there are; new ones are served."""
        for client in self._clients:
            _drop_all(client)

    def vanish(self) -> None:
        """Drop every further packet, also of who wants to connect."""
        _drop_all(self._listener)
        self.forget()

    def close(self) -> None:
        """End every connection."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(self._upstream)
                self._clients.append(client)
                self._sockets += [client, upstream]
                for source, target in ((client, upstream), (upstream, client)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def _drop_all(sock: socket.socket) -> None:
    # One that its client has closed loses nothing more.
    with suppress(OSError):
        _attach_filter(sock)


def _attach_filter(sock: socket.socket) -> None:
    code = ctypes.create_string_buffer(_KEEP_NOTHING)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(code)))


@contextmanager
def vanishing_host(database_url: str) -> Iterator[VanishingHost]:
    """A way to the database, gone afterwards; PermissionError if no packet can be dropped here."""
    with socket.socket() as probe:
        _attach_filter(probe)
    host = VanishingHost(database_url)
    try:
        yield host
    finally:
        host.close()
