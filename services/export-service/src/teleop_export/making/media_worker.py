"""Handles robots' pictures: `python -m teleop_export.making.media_worker`.

Standard input is a socket for questions and answers (media_messages). The process is confined
(teleop_runtime.confined): no network, and no files but those that are handed to it.
"""

import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator
from functools import singledispatchmethod

import av
import numpy as np
from teleop_dataset.v3.image_stats import PictureLevels, thinning
from teleop_dataset.v3.info import VideoFeature
from teleop_runtime.confined.handed import HandedFile, receive, send
from teleop_runtime.confined.sandbox import Bounds, allow_cpu, confine
from teleop_schema.files import MAX_FILE_BYTES

from teleop_export.errors import VideoUnreadable
from teleop_export.making import media_messages as messages
from teleop_export.making.picture_file import Kind, PictureFile
from teleop_export.making.thin_pictures import Codes, Planes, ThinDepth, ThinPictures
from teleop_export.making.video_writer import Encoder
from teleop_export.timing.loop_times import Integers

BOUNDS = Bounds(memory_bytes=2 * 1024**3, file_bytes=MAX_FILE_BYTES, open_files=256)
# Processor time of a question, and of each picture that it is about: encoding one in 4K takes a third of it.
CPU_S, PICTURE_CPU_S = 60, 1
TOO_MUCH_MEMORY = "its pictures take too much memory"


class Media:
    """Answers questions about the files that were handed over."""

    def __init__(self, camera: VideoFeature | None) -> None:
        self._camera = camera
        self._files: dict[int, tuple[PictureFile, int]] = {}
        self._kinds: dict[bytes, Kind] = {}
        self._encoder: Encoder | None = None
        self._handed = -1
        if camera is not None:
            step = thinning(camera.height, camera.width)
            self._thin: ThinDepth | ThinPictures = (
                ThinDepth(step) if camera.depth_unit else ThinPictures(step)
            )

    def answer(self, request: messages.Request, files: list[int]) -> messages.Answer:
        """Never raises; `files` are this object's then."""
        self._handed = files[0] if files else -1
        try:
            return self._answer(request)
        except VideoUnreadable as error:
            return messages.Unreadable(error.detail)
        except MemoryError:
            return messages.Unreadable(TOO_MUCH_MEMORY)
        except Exception:
            return messages.Failed(traceback.format_exc())

    @singledispatchmethod
    def _answer(self, request: messages.Request) -> messages.Answer:
        raise TypeError(f"nobody knows how to answer {request!r}")

    @_answer.register
    def _(self, request: messages.Open) -> messages.Answer:
        file = PictureFile(HandedFile(self._handed), self._kinds)
        self._files[request.key] = file, self._handed
        return messages.Opened(
            codec=file.kind.codec,
            pix_fmt=file.kind.pix_fmt,
            extradata=file.kind.extradata,
            height=file.kind.size[0],
            width=file.kind.size[1],
            description=file.description,
            keyframe=file.keyframe.astype(np.bool_).tobytes(),
            sizes=file.sizes.astype(np.int64).tobytes(),
            offset=file.offset.astype(np.int64).tobytes(),
            pictures=file.pictures,
            hides=bool(file.hides),
            in_order=file.in_order,
        )

    @_answer.register
    def _(self, request: messages.Close) -> messages.Answer:
        file, descriptor = self._files.pop(request.key)
        file.close()
        os.close(descriptor)
        return messages.Done()

    @_answer.register
    def _(self, request: messages.Look) -> messages.Answer:
        assert self._camera is not None  # noqa: S101
        levels = PictureLevels(self._camera)
        frames = (frame for _, frame in self._files[request.key][0].decode(_integers(request.numbers)))
        thin: Iterator[Planes | Codes] = self._thin.of(frames)
        for picture, count in zip(thin, _integers(request.times).tolist(), strict=True):
            levels.add(picture, count)
        return messages.Levels(levels.counts.tobytes(), levels.pictures)

    @_answer.register
    def _(self, request: messages.Begin) -> messages.Answer:
        assert self._camera is not None  # noqa: S101
        if self._encoder is not None:
            self._encoder.close()
        self._encoder = Encoder(os.fdopen(self._handed, "r+b", buffering=0), self._camera, request.fps)
        return messages.Done()

    @_answer.register
    def _(self, request: messages.Encode) -> messages.Answer:
        assert self._encoder is not None  # noqa: S101
        wanted = _integers(request.numbers)
        often = dict(zip(wanted.tolist(), _integers(request.times).tolist(), strict=True))
        for number, frame in self._files[request.key][0].decode(wanted):
            self._encoder.add(frame, often[number])
        return messages.Done()

    @_answer.register
    def _(self, request: messages.Finish) -> messages.Answer:
        encoder, self._encoder = self._encoder, None
        assert encoder is not None  # noqa: S101
        encoder.finish()
        return messages.Done()

    @_answer.register
    def _(self, request: messages.Convert) -> messages.Answer:
        return messages.Packets(list(self._files[request.key][0].converted(_integers(request.numbers))))

    @_answer.register
    def _(self, request: messages.DescribeAt) -> messages.Answer:
        return messages.Description(self._files[request.key][0].description_at(request.fps))


def _integers(data: bytes) -> Integers:
    return np.frombuffer(data, np.int64)


def _pictures(request: messages.Request) -> int:
    """How many pictures a request is about."""
    return len(getattr(request, "numbers", b"")) // np.dtype(np.int64).itemsize


def main() -> None:
    av.logging.set_level(None)
    questions = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    warm_up()
    missing = confine(BOUNDS)
    hello = receive(questions)
    if hello is None:
        return
    told = messages.decode_request(hello[0])
    media = Media(told.camera if isinstance(told, messages.Hello) else None)
    send(questions, messages.encode_message(messages.Ready(missing)))
    while (asked := receive(questions)) is not None:
        request = messages.decode_request(asked[0])
        allow_cpu(CPU_S + PICTURE_CPU_S * _pictures(request))
        send(questions, messages.encode_message(media.answer(request, asked[1])))


def warm_up() -> None:
    """Do all of it once with pictures of ours: what is imported only when it is needed, is imported now."""
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    with tempfile.TemporaryFile(buffering=0) as file:
        encoder = Encoder(file, VideoFeature("none", 64, 64, "h264", "yuv420p"), 30)
        encoder.add(frame, 2)
        encoder.finish()
        with PictureFile(file) as pictures:
            numbers = np.arange(pictures.pictures)
            list(ThinPictures(2).of(picture for _, picture in pictures.decode(numbers)))
            list(pictures.converted(numbers))
            pictures.description_at(15)
    try:
        raise VideoUnreadable("nothing is wrong")
    except VideoUnreadable:
        traceback.format_exc()


if __name__ == "__main__":
    main()
