"""The way from a robot PC to the backend, which may be cut at any byte."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import cycle

from teleop_backend.demo.relay import Relay, running

SAMPLES = b" /ws/"
MAX_PIECE_BYTES = 64 * 1024


class Line(Relay):
    """Brings samples to one kind of service and files to another, as the stack's proxy does.

    samples, files  ports of their services; connections go to them in turn
    """

    def __init__(self, samples: Sequence[int], files: Sequence[int]) -> None:
        super().__init__(samples)
        self._samples: Iterator[int] = cycle(samples)
        self._files: Iterator[int] = cycle(files)
        self._left_bytes: int | None = None

    def cut_after(self, size_bytes: int) -> None:
        """Reset every connection once so many bytes more have gone up; new ones come through at once."""
        self._left_bytes = size_bytes

    @property
    def is_cut_due(self) -> bool:
        """Whether the bytes that `cut_after` waits for have not come yet."""
        return self._left_bytes is not None

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream_port: int
    ) -> None:
        try:
            request = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError from error
        ports = self._samples if SAMPLES in request else self._files
        await super()._join(_Rest(request, reader, self._most), writer, next(ports))

    def _most(self) -> int:
        """How many bytes may go up before the next cut."""
        return MAX_PIECE_BYTES if self._left_bytes is None else max(1, self._left_bytes)

    def _count(self, size_bytes: int) -> None:
        super()._count(size_bytes)
        if self._left_bytes is None:
            return
        self._left_bytes -= size_bytes
        if self._left_bytes <= 0:
            self._left_bytes = None
            self._reset_all()


class _Rest(asyncio.StreamReader):
    """What a client sends, of which `begun` has been read already, in pieces of at most `most` bytes."""

    def __init__(self, begun: bytes, reader: asyncio.StreamReader, most: Callable[[], int]) -> None:
        super().__init__()
        self._begun = begun
        self._reader = reader
        self._most = most

    async def read(self, n: int = -1) -> bytes:
        most = self._most() if n < 0 else min(n, self._most())
        if self._begun:
            piece, self._begun = self._begun[:most], self._begun[most:]
            return piece
        return await self._reader.read(most)


def line_to(samples: Sequence[int], files: Sequence[int]) -> AbstractContextManager[Line]:
    """A running line."""
    return running(Line(samples, files))
