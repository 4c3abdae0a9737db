"""Uploads that resume: `POST /files/plan`, then the missing bytes by tus, until there is a receipt.

This side keeps no state. The server answers the same plan with the same upload, and the upload knows how far
it got, so any process can continue where another one was killed.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from teleop_schema.files import DatasetVersion, FilePlan, Manifest, Planned, Quota, Receipt

from teleop_client.backend_http import (
    ANSWER_S,
    BackendHttp,
    HttpFailure,
    Interrupted,
    Refused,
    dataset_address,
)
from teleop_client.credentials import Tokens
from teleop_client.throttle import Throttle

__all__ = [
    "ByteSource",
    "FileBytes",
    "HttpFailure",
    "Interrupted",
    "Refused",
    "SourceChanged",
    "Uploader",
]

TUS_VERSION = "1.0.0"
# Sent between two checks of pause and bandwidth: a second at 4 Mbit/s.
PIECE_BYTES = 512 * 1024
STALL_S = 60.0  # longest time without a single piece being sent
# Up to this many bytes are sent without asking first how many of them an earlier process has sent.
OPTIMISTIC_BYTES = 64 * 1024


class SourceChanged(Exception):
    """The file is no longer the one that the plan describes."""


class ByteSource(Protocol):
    """The source of a file's bytes."""

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer only at the end; called in other threads."""


class FileBytes:
    """Bytes of an open file; does not use the file's position."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_at(self, offset: int, size: int) -> bytes:
        pieces = []
        while size > 0 and (piece := os.pread(self._fd, size, offset)):
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(pieces)


class Uploader:
    """Uploads files to the backend; every call continues where an earlier one, in any process, was cut off.

    sent_bytes    bytes of files sent so far, including those that never arrived
    gained_bytes  the same, but each byte of a file counts only the first time: bytes that are sent again and
                  again, and refused each time, are not a gain
    quota         what the server said last of a quota that is nearly used; None: it is not, or there is none
    """

    def __init__(
        self,
        backend_url: str,
        *,
        tokens: Tokens | None = None,
        robot_id: str | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        """`backend_url`, `tokens`, `robot_id`: as for `BackendHttp`, which also raises ValueError."""
        self.backend = BackendHttp(backend_url, tokens=tokens, robot_id=robot_id)
        self.sent_bytes = 0
        self.gained_bytes = 0
        self.quota: Quota | None = None
        self._reached: dict[str, _Reached] = {}
        self._throttle = throttle or Throttle()

    async def __aenter__(self) -> "Uploader":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self.backend.close()

    async def upload(
        self, plan: FilePlan, source: ByteSource, *, advance: Callable[[int], None] = lambda _: None
    ) -> Receipt:
        """Upload what the server lacks of the file, and return its receipt. One attempt: see `persevering`.

        source   the bytes from which the plan's hashes were computed
        advance  called with the number of bytes sent

        Raises Refused, Interrupted (call again), SourceChanged.
        """
        planned = await self._plan(plan)
        upload = planned.upload
        if planned.receipt is None:
            try:
                await self._send_missing(plan, planned, source, advance)
            except SourceChanged:
                # Otherwise the server would reserve space, until the upload expires, for bytes
                # that can't come any more.
                self._reached.pop(upload or "", None)
                with suppress(HttpFailure):
                    await self._terminate(upload or "")
                raise
            except Refused:
                self._reached.pop(upload or "", None)
                raise
            # The chunks are no longer needed, and their list may have
            # a tenth of a percent of the file's size.
            planned = await self._plan(FilePlan(plan.file))
        if planned.receipt is None:
            raise Interrupted("the backend has all bytes, but has not sent a receipt yet")
        if (planned.receipt.sha256, planned.receipt.size_bytes) != (plan.file.sha256, plan.file.size_bytes):
            raise Interrupted("the backend sent the receipt of another file")
        self._reached.pop(upload or "", None)
        return planned.receipt

    async def commit(self, robot_id: str, dataset: str, manifest: Manifest) -> DatasetVersion:
        """Make the files that were uploaded one version of the dataset; the same manifest again is harmless.

        Raises Refused, Interrupted; the code is "files_missing" if the server lacks some of the files.
        """
        address = dataset_address(robot_id, dataset, "versions")
        return await self.backend.ask("POST", address, DatasetVersion, body=manifest)

    async def _plan(self, plan: FilePlan) -> Planned:
        planned = await self.backend.ask("POST", "/files/plan", Planned, body=plan)
        self.quota = planned.quota
        # An answer that makes no sense must not make this read beyond the file, or loop forever.
        in_file = all(
            offset >= 0 and length > 0 and offset + length <= plan.file.size_bytes
            for offset, length in planned.missing
        )
        if not in_file or (planned.receipt is None and planned.upload is None):
            raise Interrupted("the backend's answer to the upload plan is invalid")
        return planned

    async def _send_missing(
        self, plan: FilePlan, planned: Planned, source: ByteSource, advance: Callable[[int], None]
    ) -> None:
        address = planned.upload or ""
        total_bytes = sum(length for _, length in planned.missing)
        reached = self._reached.setdefault(address, _Reached())
        # A question costs as much as sending so little again.
        offset = 0 if total_bytes <= OPTIMISTIC_BYTES else await self._offset(address)
        # Bytes written to a socket may get lost on the way; only what the server has counts.
        progressed, reached.stored = offset > reached.stored, offset
        body = _Body(self, planned.missing, offset, source, advance, reached)
        try:
            try:
                await self._patch(address, body, total_bytes)
            except HttpFailure as error:
                if error.code != "offset_mismatch":
                    raise
                # Once: a second mismatch means that somebody else sends at the same time.
                body.start(await self._offset(address))
                await self._patch(address, body, total_bytes)
        except Interrupted as error:
            error.progressed = progressed
            # Either the line damaged the bytes, and the same are sent again, or the file here is another one.
            if error.code == "checksum_mismatch" and not await asyncio.to_thread(_is_same, plan, source):
                raise SourceChanged("the file is no longer the one that was hashed") from error
            raise

    async def _terminate(self, address: str) -> None:
        async with self.backend.request("DELETE", address, headers={"Tus-Resumable": TUS_VERSION}):
            pass

    async def _offset(self, address: str) -> int:
        """How many bytes of the upload's body the server has."""
        async with self.backend.request(
            "HEAD", address, headers={"Tus-Resumable": TUS_VERSION}, patience_s=STALL_S
        ) as (response, _):
            told = response.headers.get("Upload-Offset", "")
        if not told.isascii() or not told.isdigit():
            raise Interrupted(f"{self.backend.url} does not say how much of an upload it has")
        return int(told)

    async def _patch(self, address: str, body: "_Body", total_bytes: int) -> None:
        if body.offset > total_bytes:
            raise Interrupted(f"{self.backend.url} claims more bytes of an upload than the file has")
        headers = {
            "Tus-Resumable": TUS_VERSION,
            "Upload-Offset": str(body.offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(total_bytes - body.offset),
        }
        try:
            async with asyncio.timeout(STALL_S) as body.deadline:
                data = body.pieces() if total_bytes > body.offset else b""
                async with self.backend.request(
                    "PATCH", address, headers=headers, data=data, patience_s=None
                ) as (response, _):
                    told = response.headers.get("Upload-Offset")
                if told != str(total_bytes):
                    # A proxy or a captive portal, which says "done" to anything.
                    raise Interrupted(
                        f"the answer to an upload (status {response.status}) does not confirm it; does "
                        f"something other than the backend answer at {self.backend.url}?"
                    )
        except TimeoutError:
            failure: HttpFailure = Interrupted(f"{self.backend.url} accepts no more bytes")
        except HttpFailure as error:
            failure = error
        else:
            return
        # The reason on this side explains more than what the network made of it.
        raise body.trouble or failure

    async def _let_out(self, size_bytes: int) -> None:
        await self._throttle.pass_through(size_bytes)
        self.sent_bytes += size_bytes

    @property
    def piece_bytes(self) -> int:
        """How many bytes to send at a time."""
        return min(PIECE_BYTES, self._throttle.piece_bytes or PIECE_BYTES)


@dataclass
class _Reached:
    """Progress of an upload over all attempts.

    stored  bytes that the server had when the last attempt began
    sent    offset up to which bytes have been sent
    """

    stored: int = 0
    sent: int = 0


class _Body:
    """What one PATCH sends, and how far it got.

    trouble  why the source could not be read; aiohttp says only that the body ended early
    """

    def __init__(
        self,
        uploader: Uploader,
        missing: Sequence[tuple[int, int]],
        offset: int,
        source: ByteSource,
        advance: Callable[[int], None],
        reached: _Reached,
    ) -> None:
        self._uploader = uploader
        self._reached = reached
        self._missing = missing
        self._source = source
        self._advance = advance
        self.deadline: asyncio.Timeout | None = None
        self.trouble: Exception | None = None
        self.start(offset)

    def start(self, offset: int) -> None:
        """Send from `offset` of the upload on."""
        self.offset = offset

    async def pieces(self) -> AsyncIterator[bytes]:
        # The file is read in threads: a slow disk must not stop the other uploads.
        sent = self.offset
        for start, size in pieces_from(self._missing, self.offset, self._uploader.piece_bytes):
            try:
                piece = await asyncio.to_thread(self._source.read_at, start, size)
            except OSError as error:
                self.trouble = SourceChanged(f"the file can no longer be read: {error}")
                raise self.trouble from error
            if len(piece) != size:
                self.trouble = SourceChanged("the file is shorter than when it was hashed")
                raise self.trouble
            await self._uploader._let_out(size)
            self._wait(STALL_S)
            yield piece
            sent += size
            # Only what goes beyond the furthest point so far: sending the same again is no progress.
            self._uploader.gained_bytes += max(0, sent - max(self._reached.sent, sent - size))
            self._reached.sent = max(self._reached.sent, sent)
            self._advance(size)
        # All is sent; now the server assembles the file and hashes it.
        self._wait(ANSWER_S)

    def _wait(self, seconds: float) -> None:
        if self.deadline is not None and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time() + seconds)


def pieces_from(
    missing: Sequence[tuple[int, int]], offset: int, piece_bytes: int
) -> Iterator[tuple[int, int]]:
    """(offset, length) in the file of everything after the first `offset` bytes of `missing`, in pieces."""
    for start, length in missing:
        skipped = min(offset, length)
        offset -= skipped
        for position in range(start + skipped, start + length, piece_bytes):
            yield position, min(piece_bytes, start + length - position)


def _is_same(plan: FilePlan, source: ByteSource) -> bool:
    """Whether the source still has the bytes that the plan describes."""
    digest = hashlib.sha256()
    offset = 0
    try:
        while piece := source.read_at(offset, PIECE_BYTES):
            digest.update(piece)
            offset += len(piece)
            # It has grown, so the rest need not be read.
            if offset > plan.file.size_bytes:
                return False
    except OSError:
        return False
    return digest.hexdigest() == plan.file.sha256
