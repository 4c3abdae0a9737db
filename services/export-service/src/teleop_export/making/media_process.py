"""Processes that handle the pictures of robots: what a file does to its decoder ends one of them. Blocks."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from teleop_dataset.v3.image_stats import PictureLevels
from teleop_dataset.v3.info import VideoFeature
from teleop_runtime.confined.ends import OF_THE_DECODER, cause_of
from teleop_runtime.confined.handed import receive, send
from teleop_runtime.confined.start import channel, command_of, worker_environment
from teleop_runtime.logs import get_logger

from teleop_export.errors import MediaEnded, VideoUnreadable
from teleop_export.making import media_messages as messages
from teleop_export.making.picture_table import PictureTable, SegmentPictures, VideoEncoding
from teleop_export.timing.loop_times import Integers

log = get_logger(__name__)

WORKER = command_of("teleop_export.making.media_worker")
# Started before they are needed: that takes half a second.
MOST_SPARE = 2
# A process that does not answer for this long hangs: it is more than its processor time on a busy machine.
PATIENCE_S, PICTURE_PATIENCE_S = 600.0, 4.0
# A process that has closed its socket ends at once.
ENDS_WITHIN_S = 10.0
# Of pictures that are converted at once, about.
BATCH_BYTES = 4 * 1024**2


class MediaProcess:
    """One `media_worker`, for one camera or one session's video; it may be asked by several threads."""

    def __init__(self) -> None:
        ours, theirs = channel()
        with theirs:
            self._process = subprocess.Popen(
                WORKER,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                # FFmpeg says there what it thinks of files, and a hostile one makes it say much.
                stderr=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is for this process, which then ends the other in order.
                start_new_session=True,
                env=worker_environment(),
            )
        self._socket = ours
        self._lock = threading.Lock()
        self._keys = count()
        self.missing: list[str] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask[A: messages.Answer](
        self, request: messages.Request, answer: type[A], files: Sequence[int] = (), *, pictures: int = 0
    ) -> A:
        """Its answer; raises VideoUnreadable if a file is at fault, MediaEnded if something else ended it."""
        with self._lock:
            try:
                self._socket.settimeout(PATIENCE_S + PICTURE_PATIENCE_S * pictures)
                send(self._socket, messages.encode_message(request), files)
                received = receive(self._socket)
            except TimeoutError:
                self.end()
                raise MediaEnded("the process that decodes video gave no answer") from None
            # It has ended: how, its exit code says.
            except OSError:
                received = None
            if received is None:
                raise self._ended()
        found = messages.decode_answer(received[0])
        if isinstance(found, messages.Unreadable):
            raise VideoUnreadable(found.detail)
        if not isinstance(found, answer):
            raise TypeError(f"the process that decodes video failed: {found}")
        return found

    def hello(self, camera: VideoFeature | None) -> None:
        """Tell it what its pictures are to become."""
        self.missing = self.ask(messages.Hello(camera), messages.Ready).missing

    def open(self, path: Path) -> "HandedPictures":
        """A file of pictures."""
        return HandedPictures(self, next(self._keys), path)

    def encode(self, path: Path, fps: int, parts: Iterator[SegmentPictures]) -> None:
        """Encode pictures, as often as they are named, into an mp4 of the camera's kind of video."""
        with path.open("wb+", buffering=0) as file:
            self.ask(messages.Begin(fps), messages.Done, [file.fileno()])
            for segment, shown in parts:
                assert isinstance(segment, HandedPictures)  # noqa: S101
                segment.encode(shown)
            self.ask(messages.Finish(), messages.Done)

    def _ended(self) -> VideoUnreadable | MediaEnded:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDS_WITHIN_S)
        code = self._process.poll()
        self.end()
        # A crash of the decoder is the file's fault, and comes again; anything else may pass.
        if code is not None and -code in OF_THE_DECODER:
            return VideoUnreadable(f"the decoder crashed on a picture ({cause_of(code)})")
        why = "hangs" if code is None else f"ended ({cause_of(code)})"
        return MediaEnded(f"the process that decodes video {why}")

    def end(self) -> None:
        """End the process; what it was asked is not answered any more."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


class HandedPictures(PictureTable):
    """A file of pictures that a process has read and decodes; here only its bytes are copied."""

    def __init__(self, media: MediaProcess, key: int, path: Path) -> None:
        """Raises VideoUnreadable."""
        self._media = media
        self._key = key
        with contextlib.ExitStack() as stack:
            try:
                self._file = stack.enter_context(path.open("rb", buffering=0))
            except OSError as error:
                raise VideoUnreadable(f"{path.name} can't be read as video: {error}") from error
            told = media.ask(messages.Open(key), messages.Opened, [self._file.fileno()])
            self._resources = stack.pop_all()
        super().__init__(
            encoding=VideoEncoding(told.codec, told.pix_fmt, told.extradata, (told.height, told.width)),
            description=told.description,
            keyframe=np.frombuffer(told.keyframe, np.bool_),
            sizes=np.frombuffer(told.sizes, np.int64),
            offset=np.frombuffer(told.offset, np.int64),
            pictures=told.pictures,
            hides=told.hides,
            in_order=told.in_order,
        )

    def fileno(self) -> int:
        """The open file's descriptor."""
        return self._file.fileno()

    def description_at(self, fps: int) -> bytes:
        """What `stsd` says of the pictures, with another rate."""
        return self._media.ask(messages.DescribeAt(self._key, fps), messages.Description).description

    def converted(self, numbers: Integers) -> Iterator[bytes]:
        """Pictures, ascending, as a decoder takes them that knows nothing but packets."""
        begins = np.flatnonzero(np.diff(np.cumsum(self.sizes[numbers]) // BATCH_BYTES, prepend=-1))
        for part in np.split(numbers, begins[1:]):
            request = messages.Convert(self._key, part.astype(np.int64).tobytes())
            yield from self._media.ask(request, messages.Packets, pictures=len(part)).packets

    def look(self, numbers: Integers, levels: PictureLevels) -> None:
        """Add how bright some pictures are, each as often as it is named."""
        if not len(numbers):
            return
        request = messages.Look(self._key, *_counted(numbers))
        found = self._media.ask(request, messages.Levels, pictures=len(numbers))
        levels.counts += np.frombuffer(found.counts, np.int64).reshape(levels.counts.shape)
        levels.pictures += found.pictures

    def encode(self, shown: Integers) -> None:
        """Append pictures to what is being encoded, each as often as it is named."""
        self._media.ask(messages.Encode(self._key, *_counted(shown)), messages.Done, pictures=len(shown))

    def close(self) -> None:
        """Close the file, here and there."""
        self._resources.close()
        with contextlib.suppress(VideoUnreadable, MediaEnded):
            self._media.ask(messages.Close(self._key), messages.Done)


class MediaPool:
    """Processes for one export after the other: each has its own, which nobody had before."""

    def __init__(self) -> None:
        self._spare: list[MediaProcess] = []
        self._lock = threading.Lock()
        self._closed = False
        self._told = False

    @contextlib.contextmanager
    def lend(self, camera: VideoFeature | None) -> Iterator[MediaProcess]:
        """A process that nobody had before, and nobody gets afterwards: no file can reach the next export."""
        with self._lock:
            media = self._spare.pop() if self._spare else MediaProcess()
        try:
            media.hello(camera)
            self._tell(media.missing or [])
            yield media
        finally:
            # Also a process that works: it has read files of one export, and serves no other.
            media.end()
            self._replace()

    def _replace(self) -> None:
        """Whoever has exported video will do so again."""
        with self._lock:
            if not self._closed and len(self._spare) < MOST_SPARE:
                self._spare.append(MediaProcess())

    def close(self) -> None:
        """End those that nobody has; no more are started ahead."""
        with self._lock:
            self._closed = True
            while self._spare:
                self._spare.pop().end()

    def _tell(self, missing: list[str]) -> None:
        if missing and not self._told:
            self._told = True
            log.warning("decoding of video is not fully confined on this system", missing=missing)


def _counted(numbers: Integers) -> tuple[bytes, bytes]:
    """Different numbers, ascending, and how often each is there."""
    different, times = np.unique(numbers, return_counts=True)
    return different.astype(np.int64).tobytes(), times.astype(np.int64).tobytes()
