"""Turns a session's pictures into video.

Run as `python -m lerobot_robot_backend.video.encoder <stream dir> --ring FD`.

Each session has its own encoder process, at low priority. The recording process starts it; from it, the
encoder inherits the ring and an open file with the stream's lock (ENCODER_LOCK). The encoder ends when the
recording is over, or its process is dead, and everything in the ring is handled. It may be killed at any
moment: what it has not put into a file is still in the ring for the next encoder, or is named as missing.
"""

import argparse
import logging
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from teleop_schema.decoding import prepare_types
from teleop_schema.files import DroppedFrames
from teleop_schema.words import counted, size_text

from lerobot_robot_backend.spool.durable import FULL, sync_directory
from lerobot_robot_backend.spool.locks import is_locked
from lerobot_robot_backend.spool.stream import WRITER_LOCK, StreamFile, read_stream
from lerobot_robot_backend.video.choice import Quality
from lerobot_robot_backend.video.codec import EncodingFailed, PictureEncoder
from lerobot_robot_backend.video.files import (
    find_parts,
    make_camera_dir,
    next_chunk_index,
    part_path,
    recorded_cameras,
)
from lerobot_robot_backend.video.finish import finish_part
from lerobot_robot_backend.video.part_file import (
    MAX_PART_BYTES,
    PartWriter,
    SegmentHead,
    read_part,
    sync_part,
)
from lerobot_robot_backend.video.picture_kind import PictureKind
from lerobot_robot_backend.video.picture_ring import DamagedRing, PictureRing, Reason, TakenPicture

# Video reaches the server about this long after it was recorded;
# shorter segments mean more files and requests.
SEGMENT_S = 10
# Pictures are larger and less valuable than joint values, which are synced every 40 ms.
SYNC_S = 1.0
# The rest of the disk is reserved for samples: each is worth more than a picture.
MIN_FREE_BYTES = 500_000_000
# The robot's control loop has priority.
NICENESS = 10

# A third of a picture's duration at 30 fps; the ring holds two seconds.
_POLL_S = 0.01
# If the recorder was killed, nobody closes the ring.
_LIFE_CHECK_S = 0.5
# Most entries per segment; more of them would add no information.
_MAX_REASONS = 5
# FFmpeg's messages may be long; the log has all of them.
_MAX_REASON_CHARACTERS = 500

log = logging.getLogger("lerobot_robot_backend.video.encoder")


class NoRoom(OSError):
    """The disk has too little free space for video."""


class CameraRecorder:
    """Puts one camera's pictures into segments.

    A segment is full after `pictures_per_segment` pictures. It stays open until the next picture arrives
    or the recording ends, so that there is always a segment that can name what is missing at the end.
    """

    def __init__(
        self,
        ring: PictureRing,
        camera: int,
        head: SegmentHead,
        folder: Path,
        quality: Quality,
        finish: Callable[[Path], None],
        *,
        pictures_per_segment: int,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        """Continue after what an earlier encoder has recorded.

        head    head of the camera's segments; number and size are filled in for each
        finish  called with each complete segment
        """
        self._ring = ring
        self._camera = camera
        self._head = head
        self._folder = folder
        self._quality = quality
        self._finish = finish
        self._pictures_per_segment = pictures_per_segment
        self._min_free_bytes = min_free_bytes
        self._part: PartWriter | None = None
        self._encoder: PictureEncoder | None = None
        self._in_segment = 0
        self._shape: tuple[int, int, PictureKind] | None = None
        self._reasons: list[str] = []
        account = ring.account(camera)
        self._next, self._after, self._recorded = account.taken, account.taken_index, account.recorded
        self._resume()

    def take(self, picture: TakenPicture) -> None:
        """Record a picture; one that can't be recorded is named as missing before the next."""
        if picture.number < self._next:
            return  # already in a file when the last encoder died
        try:
            self._record(picture)
        except (OSError, EncodingFailed) as error:
            self._encoder = None  # the next picture must not build on a missing one
            no_room = isinstance(error, NoRoom) or getattr(error, "errno", None) in FULL
            self._ring.fail(self._camera, Reason.NO_ROOM if no_room else Reason.NOT_RECORDED)
            self._excuse(error.strerror or str(error) if isinstance(error, OSError) else str(error))
            return
        self._in_segment += 1
        self._recorded += 1
        self._next, self._after = picture.number + 1, picture.frame_index + 1
        self._ring.take(self._camera, self._next, self._after, self._recorded)

    def end(self) -> None:
        """Complete the last segment; no more pictures come."""
        account = self._ring.account(self._camera)
        missing = account.seen - self._next
        dropped = None
        if missing > 0:
            dropped = self._dropped(account.seen_index + 1, missing, account.reason.text)
        self._tell(dropped)
        # Without a single picture there is no segment to name it; the recording process does (`unrecorded`).
        if self._part is None:
            return
        try:
            self._part.append_end(dropped)
        except OSError as error:
            log.error("%s: %s", self._part.path, error)
        self._complete()

    def _record(self, picture: TakenPicture) -> None:
        height, width = picture.pixels.shape[:2]
        shape = height, width, picture.kind
        part, encoder = self._part, self._encoder
        full = part is not None and (
            self._in_segment >= self._pictures_per_segment or part.size_bytes >= MAX_PART_BYTES
        )
        if part is None or encoder is None or full or shape != self._shape:
            # A video has one size and one kind of pixels.
            part, encoder = self._begin_segment(*shape)
        try:
            packet = encoder.encode(picture.pixels)
            dropped = None
            if missing := picture.number - self._next:
                dropped = self._dropped(picture.frame_index, missing, picture.reason.text)
            part.append_picture(picture.number, picture.frame_index, picture.captured_us, packet, dropped)
        except (OSError, EncodingFailed):
            if part is not self._part:  # it has no picture, so its number stays free
                part.close()
                part.path.unlink(missing_ok=True)
            raise
        self._reasons = []
        self._tell(dropped)
        if part is not self._part:
            self._complete()
            self._part, self._encoder = part, encoder
            self._in_segment, self._shape = 0, shape

    def _begin_segment(self, height: int, width: int, kind: PictureKind) -> tuple[PartWriter, PictureEncoder]:
        """The next segment; the one before is complete only when this one has a picture."""
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < self._min_free_bytes:
            raise NoRoom(f"only {size_text(free_bytes)} are free on the disk of the spool")
        encoder = PictureEncoder(height, width, self._head.fps, self._quality, kind)
        index = next_chunk_index(self._folder)
        head = msgspec.structs.replace(
            self._head,
            chunk_index=index,
            height=encoder.size[0],
            width=encoder.size[1],
            depth_unit=kind.depth_unit,
        )
        return PartWriter(part_path(self._folder, index), head), encoder

    def _complete(self) -> None:
        if self._part is not None:
            self._part.close()
            self._finish(self._part.path)
            self._part = None

    def _dropped(self, end: int, missing: int, reason: str) -> DroppedFrames:
        text = "; ".join(self._reasons) or reason
        first = min(self._after, end - 1)
        return DroppedFrames(first, end, f"{counted(missing, 'picture')}: {text}"[:_MAX_REASON_CHARACTERS])

    def _tell(self, dropped: DroppedFrames | None) -> None:
        if dropped is not None:
            where = f"frames {dropped.first} to {dropped.end - 1}"
            log.warning("camera %s, %s: missing %s", self._head.camera_key, where, dropped.reason)

    def _excuse(self, reason: str) -> None:
        if reason not in self._reasons and len(self._reasons) < _MAX_REASONS:
            self._reasons.append(reason)
            log.error("camera %s: %s", self._head.camera_key, reason)

    def _resume(self) -> None:
        """Continue after what the earlier encoder has put into files, even if it could not say so."""
        parts = [path for path in find_parts(self._folder.parent.parent) if path.parent == self._folder]
        for path in parts:
            part = read_part(path)
            if not part.numbers:
                # It has no picture, so its number is free.
                path.unlink()
                continue
            # Only the last one can go on; an earlier encoder died between two segments.
            self._complete()
            self._part, self._in_segment = PartWriter(path), len(part.numbers)
            self._recorded += sum(number >= self._next for number in part.numbers)
            self._next = max(self._next, part.numbers[-1] + 1)
            self._after = max(self._after, part.frame_indexes[-1] + 1)
        self._ring.take(self._camera, self._next, self._after, self._recorded)


class Finisher:
    """A thread that does everything that waits for the disk, so that encoding never waits.

    It turns complete parts into finished segments, and syncs the pictures of open parts every second: a power
    loss takes only those of the last moments.
    """

    def __init__(self, stream_dir: Path) -> None:
        self._stream_dir = stream_dir
        self._named: set[Path] = set()
        self._paths: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        prepare_types()
        self._thread = threading.Thread(target=self._run, name="segment finisher")
        self._thread.start()

    def finish(self, path: Path) -> None:
        """Queue this part to be finished."""
        self._paths.put(path)

    def close(self) -> None:
        """Return once everything is finished."""
        self._paths.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                path = self._paths.get(timeout=SYNC_S)
            except queue.Empty:
                path = self._stream_dir
            try:
                self._sync_parts()
            except Exception:  # without a memory or descriptor at the moment: the next parts need this thread
                log.exception("the pictures of open parts can't be synced right now")
            if path is None:
                return
            if path != self._stream_dir:
                self._finish(path)

    def _finish(self, path: Path) -> None:
        try:
            segment = finish_part(path)
        except OSError as error:
            log.error("%s can't be finished right now: %s; it is kept for later", path, error)
            return
        except Exception:
            # A bug, or a damaged part: it stays there for the shipper, and the next parts are handled.
            log.exception("%s can't be finished", path)
            return
        if segment is not None:
            frames = len(segment.video.frames.frame_index) if segment.video.frames else 0
            log.info("finished %s: %s", segment.path, counted(frames, "picture"))

    def _sync_parts(self) -> None:
        parts = set(find_parts(self._stream_dir))
        for path in parts:
            with suppress(OSError):  # a new part without a picture, which was removed; or a disk error
                sync_part(path)
                if path not in self._named:
                    sync_directory(path.parent)
        self._named = parts


def encode(stream_dir: Path, ring: PictureRing, quality: Quality, *, min_free_bytes: int) -> None:
    """Return once the recording is over and all its pictures are in finished segments.

    Raises SpoolError if the directory holds no stream.
    """
    stream = read_stream(stream_dir)
    finisher = Finisher(stream_dir)
    try:
        recorders = [
            _make_recorder(stream_dir, stream, ring, camera, name, quality, finisher, min_free_bytes)
            for camera, name in enumerate(recorded_cameras(stream.session))
        ]
        # Only now: what earlier encoders left must be read before the first new picture.
        ring.attend()
        _pump(stream_dir, ring, recorders)
        for recorder in recorders:
            recorder.end()
    finally:
        finisher.close()


def _make_recorder(
    stream_dir: Path,
    stream: StreamFile,
    ring: PictureRing,
    camera: int,
    name: str,
    quality: Quality,
    finisher: Finisher,
    min_free_bytes: int,
) -> CameraRecorder:
    fps = picture_rate(stream.session.fps, stream.session.cameras[name].fps)
    head = SegmentHead(
        robot_id=stream.robot_id,
        session=stream.stream,
        camera_key=name,
        chunk_index=0,
        fps=fps,
        height=0,
        width=0,
    )
    return CameraRecorder(
        ring,
        camera,
        head,
        make_camera_dir(stream_dir, name),
        quality,
        finisher.finish,
        pictures_per_segment=max(1, round(SEGMENT_S * fps)),
        min_free_bytes=min_free_bytes,
    )


def picture_rate(loop_fps: float, camera_fps: float | None) -> float:
    """How many different pictures the loop sees per second."""
    return min(loop_fps, camera_fps or loop_fps)


def _pump(stream_dir: Path, ring: PictureRing, recorders: list[CameraRecorder]) -> None:
    """Record what comes through the ring until nobody writes into it any more."""
    recording, checked_at_s = True, 0.0
    while True:
        # Asked before looking into the ring: once the writer is gone, what is not there will never be there.
        if time.monotonic() >= checked_at_s + _LIFE_CHECK_S:
            recording, checked_at_s = is_locked(stream_dir / WRITER_LOCK), time.monotonic()
        over = ring.closed or not recording
        try:
            while (picture := ring.read()) is not None:
                recorders[picture.camera].take(picture)
                # After it is in a file: killed in between, the next encoder finds it again, by its number.
                ring.release(picture.end)
        except (DamagedRing, IndexError) as error:
            log.error("%s", error)
            # Their records can't be told apart any more; the cameras' numbers show how many are missing.
            ring.release_all()
        if over:
            return
        time.sleep(_POLL_S)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lerobot_robot_backend.video.encoder", description=__doc__
    )
    parser.add_argument("directory", type=Path, help="a stream's directory")
    parser.add_argument("--ring", type=int, required=True, help="inherited file descriptor of the ring")
    parser.add_argument("--quality", choices=("high", "lossless"), default="high")
    parser.add_argument("--min_free_bytes", type=int, default=MIN_FREE_BYTES)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The encoder ends by itself, after the recording process, which gets the same signals.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    ring = PictureRing(chosen.ring)
    encode(chosen.directory, ring, chosen.quality, min_free_bytes=chosen.min_free_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
