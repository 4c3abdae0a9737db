"""A connection that can be cut: a TCP relay in front of the backend, in a separate thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle

# Bytes relayed at a time.
PIECE_BYTES = 64 * 1024


class Relay:
    """Passes bytes between clients of `port` and servers on 127.0.0.1, unless it is cut.

    upstream_ports  where the servers listen; connections go to them in turn

    `sent_bytes` counts what clients have sent to the servers, headers included.
    """

    def __init__(self, upstream_ports: Sequence[int]) -> None:
        self._upstream_ports = cycle(upstream_ports)
        self._writers: set[asyncio.StreamWriter] = set()
        self._lines: set[asyncio.Task[None]] = set()
        self._whole = True
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0
        self.sent_bytes = 0
        self.started = threading.Event()

    def cut(self) -> None:
        """Reset every connection and refuse new ones until `mend`."""
        self._whole = False
        self._loop.call_soon_threadsafe(self._reset_all)

    def mend(self) -> None:
        """Let connections through again."""
        self._whole = True

    def stall(self) -> None:
        """Keep connections open but let nothing through until `flow`, like a dead link."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Let bytes through again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _reset_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self) -> None:
        """Relay until `stop`."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.started.set()
        await self._stopped.wait()
        server.close()
        self._flowing.set()
        self._reset_all()
        # asyncio prints long messages about everything that it has to cancel at its end.
        await asyncio.gather(*self._lines, return_exceptions=True)

    def stop(self) -> None:
        """End `serve`, resetting every connection."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        line = asyncio.create_task(self._join(reader, writer, next(self._upstream_ports)))
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)
        with suppress(OSError):
            await line
        writer.close()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream_port: int
    ) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        self._writers |= {writer, upstream_writer}
        try:
            await asyncio.gather(
                self._pump(reader, upstream_writer, self._count), self._pump(upstream_reader, writer)
            )
        finally:
            self._writers -= {writer, upstream_writer}

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Callable[[int], None] = lambda _size: None,
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()
                count(len(piece))
        writer.close()

    def _count(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes


@contextmanager
def relay_to(*upstream_ports: int) -> Iterator[Relay]:
    """A running relay."""
    with running(Relay(upstream_ports)) as relay:
        yield relay


@contextmanager
def running[R: Relay](relay: R) -> Iterator[R]:
    """The running relay, in a separate thread."""
    thread = threading.Thread(target=lambda: asyncio.run(relay.serve()), name="relay", daemon=True)
    thread.start()
    relay.started.wait()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join()
