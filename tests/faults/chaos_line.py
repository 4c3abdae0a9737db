"""The way from a robot PC to the backend, which may be cut at any byte."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import cycle

from lerobot_backend.demo.relay import Relay, running

SAMPLES = b" /ws/"


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

    async def _open(self, reader: asyncio.StreamReader) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            request = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError from error
        ports = self._samples if SAMPLES in request else self._files
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", next(ports))
        upstream_writer.write(request)
        return upstream_reader, upstream_writer

    @property
    def _piece_bytes(self) -> int:
        left = self._left_bytes
        return super()._piece_bytes if left is None else max(1, min(super()._piece_bytes, left))

    def _count(self, size_bytes: int) -> None:
        super()._count(size_bytes)
        if self._left_bytes is None:
            return
        self._left_bytes -= size_bytes
        if self._left_bytes <= 0:
            self._left_bytes = None
            self._reset_all()


def line_to(samples: Sequence[int], files: Sequence[int]) -> AbstractContextManager[Line]:
    """A running line."""
    return running(Line(samples, files))
