"""Ships what lies in the spool: samples of streams that nobody records any more, and finished video segments.

The recording command starts shippers of its own; a lock per stream keeps the two apart. What they leave
behind (the machine was switched off, they were killed) is brought on here.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from lerobot_robot_backend.address import check_backend_url
from lerobot_robot_backend.shipper import CONCURRENT_STREAMS, ship_stream
from lerobot_robot_backend.stream import WRITER_LOCK, SpoolError, find_streams, is_locked, read_progress
from lerobot_robot_backend.video_shipper import ship_video
from lerobot_robot_backend.video_spool import has_unstored_video

from sync_agent.lanes import Lanes, LaneUploader, Priority

SCAN_S = 10.0
POLL_S = 0.5

log = logging.getLogger(__name__)


@dataclass
class SpoolNow:
    """What there is to ship.

    samples, videos  streams with samples, with video segments, that the server lacks
    stored_segments  video segments that were stored by this process
    trouble          why samples can't be shipped at present, by stream
    """

    samples: int = 0
    videos: int = 0
    stored_segments: int = 0
    refused_segments: int = 0
    trouble: dict[str, str] = field(default_factory=dict)


class SpoolSync:
    """Ships a spool's streams to one server, whatever server they were recorded for."""

    def __init__(
        self, spool_dir: Path, server: str, lanes: Lanes, uploader: LaneUploader, *, token: str | None
    ) -> None:
        self.now = SpoolNow()
        self._spool_dir = spool_dir
        self._server = check_backend_url(server)
        self._lanes = lanes
        self._uploader = uploader
        self._token = token
        self._slots = asyncio.Semaphore(CONCURRENT_STREAMS)
        self._shipping: dict[tuple[str, Path], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Ship for ever what is there and what comes; nothing while the lanes are closed."""
        try:
            while True:
                if self._lanes.is_open:
                    await self._start()
                for _ in range(int(SCAN_S / POLL_S)):
                    await asyncio.sleep(POLL_S)
                    if not self._lanes.is_open:
                        await self._stop()
        finally:
            await self._stop()

    async def once(self) -> bool:
        """Ship what is there; whether the server has all of it then."""
        try:
            await self._start()
            while self._shipping:
                await asyncio.wait(self._shipping.values())
                self._reap()
            await self._start()
            return not self.now.samples and not self.now.videos
        finally:
            await self._stop()

    async def _start(self) -> None:
        """Begin with every stream that is not being shipped yet."""
        self._reap()
        samples, videos = await asyncio.to_thread(self._find)
        self.now.samples, self.now.videos = len(samples), len(videos)
        self.now.trouble = {
            stream_dir.name: trouble
            for stream_dir in samples
            if (trouble := read_progress(stream_dir).trouble)
        }
        for stream_dir in samples:
            key = "samples", stream_dir
            if key not in self._shipping:
                self._shipping[key] = asyncio.create_task(self._ship_samples(stream_dir))
        for stream_dir in videos:
            key = "video", stream_dir
            if key not in self._shipping:
                self._shipping[key] = asyncio.create_task(self._ship_video(stream_dir))

    def _find(self) -> tuple[list[Path], list[Path]]:
        streams = list(find_streams(self._spool_dir))
        samples = [
            stream_dir
            for stream_dir in streams
            if not is_locked(stream_dir / WRITER_LOCK) and not read_progress(stream_dir).ended
        ]
        return samples, [stream_dir for stream_dir in streams if has_unstored_video(stream_dir)]

    async def _ship_samples(self, stream_dir: Path) -> None:
        shipping = asyncio.create_task(
            ship_stream(stream_dir, backend_url=self._server, token=self._token, slots=self._slots)
        )
        try:
            while not shipping.done():
                # A stream that the server refuses keeps nobody else waiting.
                if read_progress(stream_dir).trouble is None:
                    with self._lanes.sending(Priority.TELEMETRY):
                        await asyncio.wait((shipping,), timeout=POLL_S)
                else:
                    await asyncio.wait((shipping,), timeout=POLL_S)
            shipping.result()
        except SpoolError as error:
            log.error("samples can't be shipped", extra={"stream": stream_dir.name, "error": str(error)})
        finally:
            shipping.cancel()
            await asyncio.gather(shipping, return_exceptions=True)

    async def _ship_video(self, stream_dir: Path) -> None:
        try:
            shipped = await ship_video(stream_dir, self._uploader)
        except (SpoolError, OSError) as error:
            log.error("video can't be shipped", extra={"stream": stream_dir.name, "error": str(error)})
            return
        if shipped is not None:
            self.now.stored_segments += shipped.stored
            self.now.refused_segments += shipped.refused

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
