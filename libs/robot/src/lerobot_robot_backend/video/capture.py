"""Video in the recording process: hands each new picture to the encoder, and never waits for it."""

import logging
import operator
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from teleop_schema.limits import FIRST_US, LAST_US
from teleop_schema.session import Camera, SessionDescription
from teleop_schema.words import counted

from lerobot_robot_backend.children import Attempts, start_child
from lerobot_robot_backend.spool.locks import FileLock
from lerobot_robot_backend.video.choice import RGB, Quality
from lerobot_robot_backend.video.files import (
    ENCODER_LOCK,
    ENCODER_LOG,
    VIDEO_DIR,
    count_segments,
    recorded_cameras,
)
from lerobot_robot_backend.video.picture_kind import PictureKind, kind_of
from lerobot_robot_backend.video.picture_ring import (
    MAX_RING_BYTES,
    MIN_RING_BYTES,
    Reason,
    create_ring,
)

# The encoder may pause for that long, for example while it is started again.
RING_S = 2.0
# If a picture has no time and equals the last one, the scene is at rest, as in a simulator. It is recorded
# again after this time, so that nobody takes the camera for one that has stopped.
SEEN_AGAIN_US = 200_000
# Pause between two starts of the encoder; doubled each time if it ends at once.
_RESTART_S = 1.0
# After this time, an encoder that has not started is named as the reason.
_LONGEST_RESTART_S = 30.0
# For `wait_for_encoder`, before the loop has begun.
_POLL_S = 0.01
# A process that asks whether a stream is being encoded holds its lock for some microseconds.
_LOCK_S = 1.0
_NEVER = "the robot gave no picture for it"

log = logging.getLogger("lerobot_robot_backend")


@dataclass
class _Camera:
    """The state of one camera.

    channels values per pixel: RGB, or 1 of depth
    seen     how many different pictures the loop has seen; `handed_over` of them went to the encoder
    index    the loop iteration that first saw the last one, `picture`
    content  a copy of it if it had no time of its own, because its array may be filled again
    taken_us when it was taken, if known
    reason   why the last picture was not handed over
    why      why any picture was not handed over
    """

    name: str
    channels: int
    seen: int = 0
    handed_over: int = 0
    index: int = -1
    picture: Any = None
    captured_us: int | None = None
    content: bytes | None = None
    taken_us: int = 0
    reason: Reason = Reason.NONE
    why: Reason = Reason.NONE


@dataclass(frozen=True)
class PictureCounts:
    """Account of one camera's pictures.

    recorded  pictures in a segment
    waiting   on their way to the encoder; includes pictures of which nobody knows yet that they were dropped
    dropped   neither of both; `reason` says why
    segments  finished segments on this disk; the server has `stored` of them
    """

    recorded: int
    waiting: int
    dropped: int
    reason: str | None
    segments: int
    stored: int

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        waiting = f", {self.waiting} being recorded" if self.waiting else ""
        rest = ", the rest is safe in the spool" if self.stored < self.segments else ""
        return (
            f"{counted(self.recorded, 'picture')} recorded, {self.dropped} dropped{why}{waiting}, "
            f"{self.stored} of {counted(self.segments, 'segment')} on the server{rest}"
        )


class VideoCapture:
    """Hands the pictures of one session to its encoder, which it starts as a separate process.

    `attempts` tells if the encoder ends each time, or can't be started.
    """

    def __init__(self, stream_dir: Path, session: SessionDescription, quality: Quality) -> None:
        """Allocate the memory and start the encoder. Raises OSError."""
        self._stream_dir = stream_dir
        self._quality = quality
        names = recorded_cameras(session)
        self._cameras = [_Camera(name, session.cameras[name].channels) for name in names]
        (stream_dir / VIDEO_DIR).mkdir(mode=0o700)
        self._ring = create_ring(_ring_bytes(session), stream_dir)
        self._lock = threading.Lock()
        self._encoder: subprocess.Popen[bytes] | None = None
        self.attempts = Attempts("turns pictures into video", stream_dir / ENCODER_LOG)
        self._started_s = -_LONGEST_RESTART_S
        self._restart_s = _RESTART_S
        self._start_encoder()

    def offer(
        self,
        frame_index: int,
        captured_us: int,
        observation: Mapping[str, Any],
        picture_us: Mapping[str, int],
    ) -> None:
        """Hand over the pictures of a frame that were not in the frame before; raises nothing.

        captured_us  time of the frame, and of pictures without a time of their own
        picture_us   camera -> when the picture was taken; without it, a picture is new if it differs from
                     the one before (even in the same array), or if that was recorded SEEN_AGAIN_US ago
        """
        with self._lock:
            for number, camera in enumerate(self._cameras):
                picture = observation.get(camera.name)
                # An observation without this camera; or a frame that was logged later than one after it.
                if picture is None or frame_index <= camera.index:
                    continue
                own_us = _checked_time(picture_us.get(camera.name))
                content = _content(picture) if own_us is None else None
                rests = content is not None and captured_us - camera.taken_us >= SEEN_AGAIN_US
                if not rests and _is_same(camera, picture, own_us, content):
                    continue
                camera.picture, camera.captured_us, camera.index = picture, own_us, frame_index
                # Kept only of pictures without a time: others are told apart by theirs.
                camera.content = content
                camera.taken_us = captured_us if own_us is None else own_us
                self._hand_over(number, camera, camera.taken_us)

    def keep_encoding(self) -> None:
        """Start the encoder if it does not run but should."""
        lived_s = time.monotonic() - self._started_s
        self.attempts.judge(self._encoder, lived_s)
        if self.encoder_pid is None and lived_s >= self._restart_s:
            short = lived_s < 2 * self._restart_s
            self._restart_s = min(2 * self._restart_s, _LONGEST_RESTART_S) if short else _RESTART_S
            self.attempts.begin()
            try:
                self._start_encoder()
            except OSError as error:
                self.attempts.fail(str(error))
                raise

    @property
    def trouble(self) -> str | None:
        """Why the encoder does not run, or which camera's pictures it can't record now; None if it works."""
        if self.attempts.trouble:
            return self.attempts.trouble
        for number, camera in enumerate(self._cameras):
            if failing := self._ring.account(number).failing:
                remedy = (
                    f"free some space on the disk of {self._stream_dir}"
                    if failing is Reason.NO_ROOM
                    else f"see {self._stream_dir / ENCODER_LOG}"
                )
                return f"pictures of camera {camera.name} are being lost: {failing.text}; {remedy}"
        return None

    def _start_encoder(self) -> None:
        """Start an encoder that holds the stream's lock from its first moment on; raises OSError.

        If it took the lock itself, a recording that ends before that would look as if nobody encoded it.
        """
        self._started_s = time.monotonic()
        arguments = [
            "--ring",
            str(self._ring.fd),
            "--quality",
            self._quality,
            str(self._stream_dir.absolute()),
        ]
        lock = FileLock(self._stream_dir / ENCODER_LOCK)
        try:
            lock_fd = lock.acquire_soon(_LOCK_S)
            self._encoder = start_child(
                "lerobot_robot_backend.video.encoder",
                arguments,
                self._stream_dir / ENCODER_LOG,
                inherited_fds=[self._ring.fd, lock_fd],
            )
        finally:
            lock.release()

    @property
    def encoder_pid(self) -> int | None:
        """The encoder's process, None if it does not run."""
        encoder = self._encoder
        return encoder.pid if encoder is not None and encoder.poll() is None else None

    def close(self) -> None:
        """Say that no more pictures come; the encoder finishes what it has, and ends."""
        self._ring.finish()
        if self.encoder_pid is None:
            with suppress(OSError):  # no more processes or memory: the shipper finishes what is in files
                self._start_encoder()

    def wait_attended(self, timeout_s: float) -> bool:
        """Whether the encoder takes pictures, after at most this time."""
        deadline_s = time.monotonic() + timeout_s
        while not self._ring.attended and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        return self._ring.attended

    def wait_encoded(self, timeout_s: float) -> bool:
        """Whether the encoder has ended, after at most this time."""
        if self._encoder is not None:
            try:
                self._encoder.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
        return True

    def counts(self) -> dict[str, PictureCounts]:
        """Camera -> account of its pictures so far."""
        return {camera.name: self._count(number, camera) for number, camera in enumerate(self._cameras)}

    def unrecorded(self) -> dict[str, str]:
        """Camera -> reason, for cameras of which not a single picture was, or can be, recorded."""
        reasons: dict[str, str] = {}
        for number, camera in enumerate(self._cameras):
            account = self._ring.account(number)
            if not camera.handed_over:
                reasons[camera.name] = camera.why.text if camera.why else _NEVER
            elif account.failing and not account.recorded:
                # No segment will ever tell it.
                reasons[camera.name] = account.failing.text
        return reasons

    def _count(self, number: int, camera: _Camera) -> PictureCounts:
        account = self._ring.account(number)
        undone = account.seen - account.taken
        # Once the encoder has ended, it will never take what it has not taken.
        waiting = undone if self.encoder_pid is not None else 0
        why = camera.why or account.failing
        reason = why.text if why else f"see {self._stream_dir / ENCODER_LOG}"
        dropped = account.taken - account.recorded + undone - waiting
        segments, stored = count_segments(self._stream_dir, camera.name)
        return PictureCounts(
            account.recorded, waiting, dropped, reason if dropped else None, segments, stored
        )

    def _hand_over(self, number: int, camera: _Camera, captured_us: int) -> None:
        picture = camera.picture
        place = camera.seen
        camera.seen += 1
        reason = camera.reason
        self._ring.see(number, camera.seen, camera.index, reason)
        kind = kind_of(picture)
        if kind is None or kind.channels != camera.channels:
            trouble = Reason.NO_PICTURE if camera.channels == RGB else Reason.NO_DEPTH
        elif picture.nbytes > self._ring.capacity // 2:
            trouble = Reason.TOO_LARGE
        elif self._ring.write(number, place, camera.index, captured_us, picture, reason):
            camera.reason = Reason.NONE
            camera.handed_over += 1
            return
        else:
            trouble = Reason.FULL
        self._ring.see(number, camera.seen, camera.index, trouble)
        camera.reason = trouble
        if not camera.why:
            camera.why = trouble
            log.warning(
                "backend: camera %s: a picture is missing: %s (logged once)", camera.name, trouble.text
            )


def _checked_time(us: Any) -> int | None:
    """`us` as an int, None if it is not a time; the picture then gets the time of its frame."""
    try:
        checked = operator.index(us)
    except TypeError:
        return None
    return checked if FIRST_US <= checked <= LAST_US else None


def _content(picture: Any) -> bytes | None:
    """A copy of the picture, None if it is not a picture.

    Copying takes 0.03 ms for 640x480 in colour and 0.2 ms for 1920x1080, and comparing two takes as long
    again. A hash would take longer.
    """
    return picture.tobytes() if kind_of(picture) is not None else None


def _is_same(camera: _Camera, picture: Any, captured_us: int | None, content: bytes | None) -> bool:
    """Whether it is the same picture as this camera's last one."""
    if camera.picture is None:
        return False
    if captured_us is not None and captured_us != camera.captured_us:
        return False
    if content is not None and camera.content is not None:
        same_shape: bool = picture.shape == camera.picture.shape
        return same_shape and content == camera.content
    if picture is camera.picture:
        return True
    # The same time: either a copy, or a new picture whose time was read for the one before.
    kind = kind_of(picture)
    return kind is not None and kind is kind_of(camera.picture) and np.array_equal(picture, camera.picture)


def _ring_bytes(session: SessionDescription) -> int:
    def bytes_per_s(camera: Camera) -> float:
        rate = min(session.fps, camera.fps or session.fps)
        kind = PictureKind.RGB if camera.channels == RGB else PictureKind.DEPTH_M
        return camera.height * camera.width * kind.pixel_bytes * rate

    wanted = int(RING_S * sum(map(bytes_per_s, session.cameras.values())))
    return max(MIN_RING_BYTES, min(wanted, MAX_RING_BYTES))
