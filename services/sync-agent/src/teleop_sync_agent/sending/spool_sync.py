"""Sends what is in the spool: samples of streams that nobody records any more, and finished video segments.

The recording command starts its own shippers; a lock per stream keeps them apart from this module. It sends
what they leave behind (the machine was switched off, or they were killed). If a shipper can't reach its
server, it gets the agent's address. `own_streams` says which streams it sends.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lerobot_robot_backend.shipper import CONCURRENT_STREAMS, ship_stream
from lerobot_robot_backend.shipping.recall import Recalled, bring_again
from lerobot_robot_backend.spool.durable import FULL
from lerobot_robot_backend.spool.erased import describe_erased, read_erased
from lerobot_robot_backend.spool.locks import is_locked, name_holder
from lerobot_robot_backend.spool.stream import (
    SHIPPER_LOCK,
    WRITER_LOCK,
    SpoolError,
    StreamProgress,
    find_streams,
    read_progress,
    read_whole_progress,
    send_to,
)
from lerobot_robot_backend.video.files import (
    VIDEO_SHIPPER_LOCK,
    VideoProgress,
    has_unstored_video,
    how_far,
)
from lerobot_robot_backend.video_shipper import is_recorded, ship_video
from teleop_client.address import check_backend_url
from teleop_client.credentials import Tokens
from teleop_schema.holding import Lacking

from teleop_sync_agent.errors import explain
from teleop_sync_agent.sending.lanes import Lanes, LaneUploader, Priority
from teleop_sync_agent.sending.own_streams import OwnStreams

# Shippers of a running recording do their own work; this is only for what is left.
SCAN_S = 10.0
# How often to read the progress of shippers, for `status`.
POLL_S = 0.5
# Video that is still here after sending was refused.
RETRY_S = 600.0
# Nobody is told when a full disk, on which nothing can be noted, has room again.
ROOM_AGAIN_S = 30.0

log = logging.getLogger(__name__)


@dataclass
class SpoolNow:
    """What there is to send.

    samples, videos  streams with samples, with video segments, that the server lacks
    acked            frames of those streams that the server has
    waiting_frames, waiting_segments, waiting_bytes
                     what is only on this PC, also of what is being recorded: about how many frames, and
                     finished video segments with their bytes
    trouble          why some of the samples can't be recorded or sent at present
    slowest_sync_ms  duration of the slowest sync of logged samples
    stored_segments  video segments that were stored by this process
    problems         streams and folders that can't be read or sent, or are left alone, and why
    erased           streams that an admin has erased on the server, and where their copies are
    again_streams, again_segments  streams and video segments that the server had forgotten: sent again
    """

    samples: int = 0
    videos: int = 0
    acked: int = 0
    waiting_frames: int = 0
    waiting_segments: int = 0
    waiting_bytes: int = 0
    trouble: str | None = None
    slowest_sync_ms: float = 0.0
    stored_segments: int = 0
    refused_segments: int = 0
    problems: tuple[str, ...] = ()
    erased: tuple[str, ...] = ()
    again_streams: int = 0
    again_segments: int = 0


@dataclass(frozen=True)
class _Found:
    """A stream of this agent, how far it is, and whether there is video of it to send."""

    folder: Path
    progress: StreamProgress
    video: VideoProgress
    has_video: bool

    @property
    def waiting_frames(self) -> int:
        return 0 if self.progress.ended else max(self.progress.logged - self.progress.next, 0)


class SpoolSync:
    """Sends an agent's streams to its server, and names those of others that nobody sends."""

    def __init__(self, streams: OwnStreams, lanes: Lanes, uploader: LaneUploader, *, tokens: Tokens) -> None:
        self.now = SpoolNow()
        self._streams = streams
        self._server = check_backend_url(streams.server)
        self._lanes = lanes
        self._uploader = uploader
        self._tokens = tokens
        self._slots = asyncio.Semaphore(CONCURRENT_STREAMS)
        self._shipping: dict[tuple[str, Path], asyncio.Task[None]] = {}
        # By the monotonic clock; what was refused, or failed, is not tried again sooner.
        self._not_before_s: dict[tuple[str, Path], float] = {}
        self._failed: dict[tuple[str, Path], str] = {}
        # Who sends a stream instead of this agent, for people.
        self._held: dict[tuple[str, Path], str] = {}
        self._recorded: list[Path] = []

    async def run(self) -> None:
        """Send what is here and what arrives, forever; nothing while the lanes are closed."""
        try:
            while True:
                if self._lanes.is_open:
                    await self._start()
                for _ in range(int(SCAN_S / POLL_S)):
                    await asyncio.sleep(POLL_S)
                    # Paused: shippers of streams would send on, as they do not ask the lanes.
                    if not self._lanes.is_open:
                        await self._stop()
        finally:
            await self._stop()

    async def once(self, others_patience_s: float) -> list[str]:
        """Send what is here; returns a line for everything that the server then lacks,
        besides `now.problems`.

        others_patience_s  how long other processes that hold a stream may make no progress
        """
        before, patient_until_s = None, 0.0
        try:
            while True:
                lacking = await self._ship_all()
                if (now := (self.now.acked, lacking)) != before:
                    before, patient_until_s = now, time.monotonic() + others_patience_s
                if not self._is_others(lacking) or time.monotonic() >= patient_until_s:
                    break
                await asyncio.sleep(POLL_S)
        finally:
            await self._stop()
        return [self._why(*key) for key in lacking if key not in self._failed]

    async def _ship_all(self) -> list[tuple[str, Path]]:
        """Send what this process can, including streams that end meanwhile; returns what the server then
        lacks."""
        while True:
            seen = await self._start()
            while self._shipping:
                # With a limit, so that the progress of shippers is read meanwhile.
                await asyncio.wait(self._shipping.values(), timeout=POLL_S)
                self._reap()
                await self._look()
            left = self._keys(*await self._look())
            # What was there at the start was tried; what has come since gets its turn, too.
            if seen.issuperset(left):
                return left + [("recording", stream_dir) for stream_dir in self._recorded]

    def _is_others(self, lacking: list[tuple[str, Path]]) -> bool:
        """Whether another process is sending some of it, other than a recording that is still running."""
        encoding = (not is_locked(each / WRITER_LOCK) for kind, each in lacking if kind == "recording")
        return not self._held.keys().isdisjoint(lacking) or any(encoding)

    async def bring_again(self, lacking: Lacking) -> Recalled:
        """Send again what the server has forgotten, at the next look at the spool."""
        recalled = await asyncio.to_thread(lambda: bring_again(self._streams.find(), lacking))
        if recalled.segments:
            # What was put off may be what the server asks for now.
            self._not_before_s.clear()
        self.now.again_streams += recalled.streams
        self.now.again_segments += recalled.segments
        return recalled

    async def _start(self) -> set[tuple[str, Path]]:
        """Start sending every stream that is not being sent yet; returns all streams."""
        self._reap()
        keys = self._keys(*await self._look())
        for key in keys:
            if key not in self._shipping and self._not_before_s.get(key, 0.0) <= time.monotonic():
                ship = self._ship_samples if key[0] == "samples" else self._ship_video
                self._shipping[key] = asyncio.create_task(self._try(key, ship))
        return set(keys)

    @staticmethod
    def _keys(samples: list[Path], videos: list[Path]) -> list[tuple[str, Path]]:
        kinds = ("samples", samples), ("video", videos)
        return [(kind, stream_dir) for kind, stream_dirs in kinds for stream_dir in stream_dirs]

    async def _try(self, key: tuple[str, Path], ship: Callable[[Path], Awaitable[None]]) -> None:
        """Send samples or video of one stream; if that fails, it is tried much later,
        and the others continue."""
        kind, stream_dir = key
        self._failed.pop(key, None)
        self._held.pop(key, None)
        try:
            await ship(stream_dir)
        except Exception as error:
            expected = isinstance(error, SpoolError | OSError)
            log.error(
                "can't be shipped",
                extra={"stream": stream_dir.name, "what": kind, "error": explain(error)},
                exc_info=None if expected else error,
            )
            self._failed[key] = f"{stream_dir}: {explain(error) or type(error).__name__}"
            full = isinstance(error, OSError) and error.errno in FULL
            self._not_before_s[key] = time.monotonic() + (ROOM_AGAIN_S if full else RETRY_S)

    async def _look(self) -> tuple[list[Path], list[Path]]:
        """Streams with samples, and with video, that the server lacks and that nobody records any more."""
        streams, recorded, problems = await asyncio.to_thread(self._find)
        samples = [each.folder for each in streams if not each.progress.ended]
        videos = [each.folder for each in streams if each.has_video]
        self.now.samples, self.now.videos = len(samples), len(videos)
        self._recorded = [each.folder for each in recorded]
        self.now.problems = tuple(dict.fromkeys((*problems, *self._failed.values())))
        self.now.acked = sum(each.progress.next for each in streams)
        everywhere = (*recorded, *streams)
        troubles = (each.progress.trouble for each in everywhere if not each.progress.ended)
        self.now.trouble = next(filter(None, troubles), None)
        self.now.slowest_sync_ms = max((each.progress.slowest_sync_ms for each in everywhere), default=0.0)
        self.now.waiting_frames = sum(each.waiting_frames for each in everywhere)
        self.now.waiting_segments = sum(each.video.waiting for each in everywhere)
        self.now.waiting_bytes = sum(each.video.waiting_bytes for each in everywhere)
        return samples, videos

    def _find(self) -> tuple[list[_Found], list[_Found], list[str]]:
        """Streams that nobody records any more, the state of those being recorded, and what can't be read
        or is left alone."""
        streams: list[_Found] = []
        recorded: list[_Found] = []
        problems: list[str] = []
        erased: list[str] = []

        def refuse(error: Exception) -> None:
            problems.append(explain(error))

        for stream_dir in find_streams(self._streams.spool_dir, refuse):
            try:
                if (why := read_erased(stream_dir)) is not None:
                    erased.append(describe_erased(stream_dir, why))
                    continue
                own, is_over = self._streams.includes(stream_dir), not is_recorded(stream_dir)
                progress = read_whole_progress(stream_dir)
                if own:
                    # The video of what is being recorded is left to the recording's own shipper.
                    has_video = is_over and has_unstored_video(stream_dir)
                    found = _Found(stream_dir, progress, how_far(stream_dir), has_video)
                    (streams if is_over else recorded).append(found)
                elif is_over:
                    problems += self._left_alone(stream_dir, progress)
            except (OSError, SpoolError) as error:
                refuse(error)
        self.now.erased = tuple(erased)
        return streams, recorded, problems

    def _left_alone(self, stream_dir: Path, progress: StreamProgress) -> Iterator[str]:
        """A line for each part of another agent's stream that its server lacks."""
        if not progress.ended:
            yield self._streams.why_left_alone("samples", stream_dir)
        if has_unstored_video(stream_dir):
            yield self._streams.why_left_alone("video", stream_dir)

    async def _ship_samples(self, stream_dir: Path) -> None:
        shipping = asyncio.create_task(
            ship_stream(stream_dir, backend_url=self._server, tokens=self._tokens, slots=self._slots)
        )
        try:
            while not shipping.done():
                # A stream that the server refuses must not hold up the others.
                if read_progress(stream_dir).trouble is None:
                    with self._lanes.sending(Priority.TELEMETRY):
                        await asyncio.wait((shipping,), timeout=POLL_S)
                else:
                    await asyncio.wait((shipping,), timeout=POLL_S)
            if not shipping.result():
                self._held["samples", stream_dir] = name_holder(stream_dir / SHIPPER_LOCK)
                if read_progress(stream_dir).trouble:
                    # Its address may be wrong, and then it would try that address forever.
                    await asyncio.to_thread(send_to, stream_dir, self._server)
        finally:
            shipping.cancel()
            await asyncio.gather(shipping, return_exceptions=True)

    async def _ship_video(self, stream_dir: Path) -> None:
        """Send a stream's segments; refused or unfinished ones are tried again much later."""
        shipped = await ship_video(stream_dir, self._uploader)
        if shipped is None:
            self._held["video", stream_dir] = name_holder(stream_dir / VIDEO_SHIPPER_LOCK)
            return
        self.now.stored_segments += shipped.stored
        self.now.refused_segments += shipped.refused
        self._not_before_s["video", stream_dir] = time.monotonic() + RETRY_S

    def _why(self, kind: str, stream_dir: Path) -> str:
        """Text for people: why the server lacks a part of a stream although nothing failed."""
        trouble = read_progress(stream_dir).trouble if kind == "samples" else None
        if kind == "recording":
            why = "it is still being recorded, or its pictures are being encoded"
        elif holder := self._held.get((kind, stream_dir)):
            why = f"{holder} is working on it" + (f": {trouble}" if trouble else "")
        elif (kind, stream_dir) in self._not_before_s:
            why = "some of it is refused, or can't be read: the log says why"
        else:
            why = "it was recorded in the meantime"
        return f"{kind} of {stream_dir.parent.name}, {stream_dir}: not on the server yet: {why}"

    def _reap(self) -> None:
        for key, task in list(self._shipping.items()):
            if task.done():
                del self._shipping[key]
                task.result()

    async def _stop(self) -> None:
        for task in self._shipping.values():
            task.cancel()
        await asyncio.gather(*self._shipping.values(), return_exceptions=True)
        self._shipping.clear()
