"""Sends a stream's video to the server: `python -m lerobot_robot_backend.video_shipper <stream dir>`.

Each stream has its own process, like the shipper of samples. It outlives the recording, tries forever, and
exits once the recording is over and the server has every segment. It may be killed at any moment.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from teleop_client.credentials import Tokens
from teleop_client.persevering import persevere
from teleop_client.uploading import (
    ByteSource,
    FileBytes,
    Interrupted,
    Refused,
    SourceChanged,
    Uploader,
)
from teleop_schema.disk.opening import open_regular
from teleop_schema.errors import SessionErased
from teleop_schema.files import FilePlan, Receipt

from lerobot_robot_backend.shipper import TAKE_OVER_POLL_S, describe_holder
from lerobot_robot_backend.shipping.commands import (
    EXIT_FAILED,
    EXIT_LOCKED,
    run_shipper,
    shipper_parser,
    tell_failure,
    tokens_for_all,
)
from lerobot_robot_backend.shipping.recall import recall, video_of
from lerobot_robot_backend.shipping.retention import prune_spool
from lerobot_robot_backend.spool.durable import FULL
from lerobot_robot_backend.spool.erased import note_erased, read_erased
from lerobot_robot_backend.spool.locks import is_locked, locked, name_holder
from lerobot_robot_backend.spool.stream import (
    WRITER_LOCK,
    SpoolError,
    left_by_server,
    note_video_trouble,
    read_stream,
    send_to,
)
from lerobot_robot_backend.video.files import (
    ENCODER_LOCK,
    VIDEO_SHIPPER_LOCK,
    WaitingSegment,
    find_parts,
    finished_segments,
    has_unstored_video,
    mark_stored,
)

# A segment is ready every ten seconds.
POLL_S = 1.0
# The cameras of a robot at the same time; more would only share the same uplink.
CONCURRENT_UPLOADS = 4

log = logging.getLogger("lerobot_robot_backend.video_shipper")


@dataclass
class VideoShipped:
    """Results for a stream's segments in one run; refused ones stay on the disk for another run."""

    stored: int = 0
    refused: int = 0


class FileUploads(Protocol):
    """Uploads a file to a server; `Uploader` is one."""

    async def upload(self, plan: FilePlan, source: ByteSource) -> Receipt:
        """The server's receipt, after one attempt; raises as `Uploader.upload` does."""


class StreamUploader:
    """Uploads files to the stream's current server, because its address may be corrected at any time."""

    def __init__(self, stream_dir: Path, *, tokens: Tokens | None) -> None:
        """Raises SpoolError if the directory holds no stream."""
        self._dir = stream_dir
        self._tokens = tokens
        stream = read_stream(stream_dir)
        self._url, self._robot_id = stream.backend_url, stream.robot_id
        self._uploader = self._uploader_there()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._uploader.close()

    async def upload(self, plan: FilePlan, source: ByteSource) -> Receipt:
        """As `Uploader.upload`."""
        url = self._url
        with suppress(SpoolError):  # no free file descriptors at the moment: keep the address from before
            url = read_stream(self._dir).backend_url
        if url != self._url:
            log.info("%s is now sent to %s", self._dir, url)
            await self._uploader.close()
            self._url = url
            self._uploader = self._uploader_there()
        return await self._uploader.upload(plan, source)

    def _uploader_there(self) -> Uploader:
        return Uploader(self._url, tokens=self._tokens, robot_id=self._robot_id)


async def ship_video(
    stream_dir: Path,
    uploader: FileUploads,
    *,
    follow: bool = False,
    slots: asyncio.Semaphore | None = None,
) -> VideoShipped | None:
    """Upload the stream's finished segments, oldest first; does nothing and returns None
    if another process does.

    follow  continue until the recording is over; otherwise upload only what is finished now
    slots   limits how many uploads of several streams run at once

    If the server can't be reached, or does not know the session yet, it is asked again, forever. With
    `follow`, it waits while the disk is full. Raises SpoolError if the folder has no stream, OSError if the
    result can't be written to disk.
    """
    read_stream(stream_dir)
    shipped = VideoShipped()
    refused: set[Path] = set()
    # On the server, but not noted yet.
    unnoted: dict[Path, Receipt] = {}
    with locked(stream_dir / VIDEO_SHIPPER_LOCK) as held:
        if not held:
            return None
        note_video_trouble(stream_dir, None)  # of a shipper that was killed
        while True:
            # Asked before looking: once nobody records, what is not there will never be there.
            over = not is_recorded(stream_dir)
            if read_erased(stream_dir) is not None:
                break
            if over:
                await _recover(stream_dir)
            for segment in finished_segments(stream_dir):
                if segment.path in refused or read_erased(stream_dir) is not None:
                    continue
                receipt = unnoted.get(segment.path)
                receipt = receipt or await _upload(stream_dir, segment, uploader, slots or nullcontext())
                if receipt is None:
                    refused.add(segment.path)
                    shipped.refused += 1
                elif _is_noted(segment, receipt, wait=follow, again=segment.path in unnoted):
                    unnoted.pop(segment.path, None)
                    shipped.stored += 1
                else:
                    unnoted[segment.path] = receipt
            if not follow or (over and not unnoted):
                break
            await asyncio.sleep(POLL_S)
    return shipped


def _is_noted(segment: WaitingSegment, receipt: Receipt, *, wait: bool, again: bool) -> bool:
    """Note that the server has the segment; False if the disk is full.

    wait   it will be tried again; otherwise OSError is raised
    again  it was full before, which is in the log
    """
    try:
        mark_stored(segment, receipt)
    except OSError as error:
        if not wait or error.errno not in FULL:
            raise
        if not again:
            log.error("%s is stored, but that can't be noted: %s; trying again", segment.path, error.strerror)
        return False
    return True


async def ship_all_video(
    spool_dir: Path,
    *,
    backend_url: str | None = None,
    tokens: Tokens | None = None,
    failed: Callable[[Exception], None] = lambda _error: None,
) -> int:
    """Send the video of every stream that nobody records any more; returns how many segments were refused.

    This includes video that the server has confirmed but no longer knows when it is asked. A server that
    can't be reached is tried forever, and does not hold up the video for others.

    backend_url  from now on all of them go there; this call waits for processes that are sending one of them
    failed       called with the error of each stream that can't be read or sent; the error is also logged

    Raises SpoolError if there is no spool.
    """
    by_server = left_by_server(spool_dir, backend_url, failed=failed)
    prune_spool(spool_dir)
    async with asyncio.TaskGroup() as servers:
        refused = [
            servers.create_task(_ship_left(left, backend_url, tokens, failed)) for left in by_server.values()
        ]
    return sum(server.result() for server in refused)


async def _ship_left(
    left: list[Path], backend_url: str | None, tokens: Tokens | None, failed: Callable[[Exception], None]
) -> int:
    """The same for the streams of one server."""
    slots = asyncio.Semaphore(CONCURRENT_UPLOADS)

    async def ship(stream_dir: Path) -> int:
        try:
            if not has_unstored_video(stream_dir):
                return 0
            shipped = await _ship(stream_dir, backend_url, tokens, slots)
            return shipped.refused if shipped else 0
        except Exception as error:
            tell_failure(error, stream_dir, failed, expected=(SpoolError, OSError, Refused, ValueError))
            return 0

    await recall(left, video_of, backend_url=backend_url, tokens=tokens)
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(ship(stream_dir)) for stream_dir in left]
    return sum(stream.result() for stream in streams)


async def _ship(
    stream_dir: Path,
    backend_url: str | None,
    tokens: Tokens | None,
    slots: asyncio.Semaphore | None = None,
) -> VideoShipped | None:
    """Send the stream's video, from now on to that server; None if another process is sending it.

    The other process uses the corrected address; this call waits until it has nothing left to send, or ends.
    """
    if backend_url is not None:
        send_to(stream_dir, backend_url)
    told = False
    while True:
        async with StreamUploader(stream_dir, tokens=tokens) as uploader:
            shipped = await ship_video(stream_dir, uploader, follow=True, slots=slots)
        if shipped is not None or backend_url is None:
            return shipped
        if not has_unstored_video(stream_dir):
            return VideoShipped()
        if not told:
            told = True
            holder = name_holder(stream_dir / VIDEO_SHIPPER_LOCK)
            log.warning("the video of %s", describe_holder(stream_dir, holder, backend_url))
        await asyncio.sleep(TAKE_OVER_POLL_S)


def is_recorded(stream_dir: Path) -> bool:
    """Whether a living process records the stream, or encodes its pictures."""
    return is_locked(stream_dir / WRITER_LOCK) or is_locked(stream_dir / ENCODER_LOCK)


async def _recover(stream_dir: Path) -> None:
    """Finish what a dead encoder left; in a separate process, so that this one stays small."""
    if not find_parts(stream_dir):
        return
    command = [sys.executable, "-P", "-m", "lerobot_robot_backend.shipping.recovery", str(stream_dir)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        log.error("%s: the video its encoder left could not be finished; it is kept for later", stream_dir)


async def _upload(
    stream_dir: Path,
    segment: WaitingSegment,
    uploader: FileUploads,
    slot: AbstractAsyncContextManager[object],
) -> Receipt | None:
    """The server's receipt; None if it refuses the segment, or the file is not the one that was recorded.

    If the session is erased there, that is noted.
    """
    told: str | None = None

    def report(error: Interrupted) -> None:
        nonlocal told
        if str(error) != told:
            told = str(error)
            log.warning("%s waits: %s", segment.path, error)
            note_video_trouble(stream_dir, told)

    # Opened once for all attempts: whatever takes its name meanwhile is not what was recorded.
    try:
        file = open_regular(segment.path)
    except OSError as error:
        log.error("%s can't be read: %s", segment.path, error.strerror)
        return None
    fd = file.fileno()

    async def attempt() -> Receipt:
        async with slot:
            # What somebody deletes while it waits is not to be sent.
            if os.fstat(fd).st_nlink == 0:
                raise SourceChanged("it was removed")
            return await uploader.upload(FilePlan(segment.video), FileBytes(fd))

    try:
        receipt = await persevere(attempt, report=report)
    except (Refused, SourceChanged) as error:
        if isinstance(error, Refused) and error.code == SessionErased.code:
            note_erased(stream_dir, str(error))
            return None
        log.error("%s is not stored: %s; it is kept", segment.path, error)
        return None
    finally:
        file.close()
        if told:
            note_video_trouble(stream_dir, None)
    log.info("stored %s", receipt.path)
    return receipt


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    chosen = shipper_parser("lerobot_robot_backend.video_shipper", __doc__).parse_args(arguments)
    return run_shipper(chosen, partial(_ship_all_chosen if chosen.all else _ship_chosen, chosen))


def _ship_all_chosen(chosen: argparse.Namespace) -> int:
    # --all takes no lock: each stream has one, so waiting for one server holds up nobody else.
    failed: list[Exception] = []
    refused = asyncio.run(
        ship_all_video(
            chosen.directory,
            backend_url=chosen.backend_url,
            tokens=tokens_for_all(chosen.backend_url),
            failed=failed.append,
        )
    )
    return EXIT_FAILED if refused or failed else 0


def _ship_chosen(chosen: argparse.Namespace) -> int:
    stream_dir = chosen.directory.absolute()
    tokens = Tokens.of_environment(chosen.backend_url or read_stream(stream_dir).backend_url)
    shipped = asyncio.run(_ship(stream_dir, chosen.backend_url, tokens))
    prune_spool(stream_dir.parent.parent)
    if shipped is None:
        log.error("%s ships the video of %s", name_holder(stream_dir / VIDEO_SHIPPER_LOCK), stream_dir)
        return EXIT_LOCKED
    return EXIT_FAILED if shipped.refused else 0


if __name__ == "__main__":
    sys.exit(main())
