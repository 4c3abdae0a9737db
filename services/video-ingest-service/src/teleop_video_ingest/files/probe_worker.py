"""Checks untrusted video files: `python -m teleop_video_ingest.files.probe_worker`.

Standard input is a socket, by which questions come with the open file (see teleop_runtime.confined.handed);
it writes one answer per line to standard output (see worker_messages). Before the first question, it answers
what it finds in CONTROL, which is sound: if it finds nothing wrong there, the check works on this machine. It
ends with its input. It is confined (teleop_runtime.confined) before it looks into the first file.

An answer is a verdict only if the file itself is at fault. What is short or broken here (a disk that can't be
read, a machine without memory, a mistake in this module) is told as a check that was not completed.
"""

import mmap
import os
import resource
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import msgspec
from av.container import InputContainer
from av.video.stream import VideoStream
from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import MAX_PIXELS, check_size, decoder_limits, open_mp4, video_of
from teleop_dataset.mp4 import check_edits, read_header, video_track
from teleop_dataset.mp4_samples import read_samples
from teleop_runtime.confined.handed import HandedFile, receive
from teleop_runtime.confined.sandbox import Bounds, allow_cpu, confine, taken_bytes
from teleop_schema.words import counted

from teleop_video_ingest.model.worker_messages import Probed, Question

# A picture of MAX_PIXELS fits; it writes no file, and opens none: a few come to it, and few libraries do.
BOUNDS = Bounds(memory_bytes=2 * 1024**3, file_bytes=0, open_files=32)
# Days of pictures: the robots' own chunks have hundreds.
MAX_PICTURES = 1_000_000
TOO_MUCH_MEMORY = "checking it takes too much memory"
# Of its limit, what the question itself takes, and pages between mappings.
MEMORY_SLACK_BYTES = 16 * 1024**2
# Pictures are at the time of their number, within this part of a period.
PTS_TOLERANCE = 0.25

# Two black pictures of H.264, one keyframe each.
CONTROL = Path(__file__).with_name("control.mp4")
CONTROL_FRAMES = 2
READ_BYTES = 1024 * 1024


class Unusable(Exception):
    """The file is not usable as video; the text says why."""


def main() -> None:
    av.logging.set_level(None)
    control = os.open(CONTROL, os.O_RDONLY)
    questions = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    # Whatever is imported only once it is needed is imported by now.
    look_into(control, CONTROL_FRAMES)
    missing = confine(BOUNDS)
    _answer(msgspec.structs.replace(look_into(control, CONTROL_FRAMES), missing=missing))
    while (asked := receive(questions)) is not None:
        message, files = asked
        question = msgspec.json.decode(message, type=Question)
        allow_cpu(question.cpu_s)
        _answer(look_into(files[0], question.frames))
        for each in files:
            os.close(each)


def _answer(probed: Probed) -> None:
    print(msgspec.json.encode(probed).decode(), flush=True)


def look_into(file: int, told_frames: int | None) -> Probed:
    """The result of the check, with the first problem found; or why it could not be completed.

    file  its descriptor
    """
    try:
        probed = _judge(file, told_frames)
        own_fault = None if probed.problem is None else _own_fault(file, probed.problem)
    except OSError as error:
        # Whatever FFmpeg says of the file is an answer by now.
        own_fault = f"the file can't be read: {error.strerror}"
    except Exception as error:
        own_fault = _where(error)
    return probed if own_fault is None else Probed(problem=f"not checked yet: {own_fault}", looked=False)


def _judge(file: int, told_frames: int | None) -> Probed:
    found: dict[str, object] = {}
    try:
        with open_mp4(HandedFile(file)) as container:
            _examine(file, container, found)
        if told_frames is not None and found["frames"] != told_frames:
            announced = counted(told_frames, "frame")
            raise Unusable(f"its sender announced {announced}, but the file holds {found['frames']}")
    except Unusable as problem:
        found["problem"] = str(problem)
    except BrokenFile as problem:
        found["problem"] = problem.detail
    except MemoryError:
        found["problem"] = TOO_MUCH_MEMORY
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        found["problem"] = f"not a readable mp4: {getattr(error, 'strerror', None) or error}"
    return msgspec.convert(found, Probed)


def _own_fault(file: int, problem: str) -> str | None:
    """What else than the file can be to blame for a problem; None: nothing."""
    if problem == TOO_MUCH_MEMORY:
        return None if _memory_is_there() else "the machine has no memory left for it"
    # FFmpeg says little about why it could not read. If plain reading fails, too, that is no verdict.
    try:
        whole = HandedFile(file)
        while whole.read(READ_BYTES):
            pass
    except OSError as error:
        return f"the file can't be read: {error.strerror}"
    return None


def _memory_is_there() -> bool:
    """Whether this process could have all that it is allowed, so that it was the file that wanted more."""
    if (taken := taken_bytes()) is None:
        # Not Linux: other systems do not limit a process's memory.
        return True
    left = resource.getrlimit(resource.RLIMIT_AS)[1] - taken
    try:
        mmap.mmap(-1, max(left - MEMORY_SLACK_BYTES, mmap.PAGESIZE)).close()
    except (OSError, ValueError):
        return False
    return True


def _where(error: Exception) -> str:
    """An error that nobody foresaw, with the line of this package at which it was raised."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"the check failed at {Path(last.filename).name}:{last.lineno}: {error!r}"


def _examine(file: int, container: InputContainer, found: dict[str, object]) -> None:
    if len(container.streams.video) != 1:
        raise Unusable(f"it has {counted(len(container.streams.video), 'video stream')} instead of one")
    stream = video_of(container)
    codec = stream.codec_context
    # The name of the format, not of the decoder: "av1", which libdav1d decodes.
    name = codec.codec.canonical_name
    found |= {"codec": name, "pix_fmt": codec.pix_fmt, "width": codec.width, "height": codec.height}
    if codec.width * codec.height > MAX_PIXELS:
        raise Unusable(f"a picture of {codec.width}x{codec.height} is larger than {MAX_PIXELS} pixels")
    found["frames"] = 0
    packets = list(_packets(container, stream))
    # A packet hidden by an edit list is not a picture; others may only build upon it.
    pictures = [packet for packet in packets if not packet.is_discard]
    times = [packet.pts for packet in pictures if packet.pts is not None]
    keyframes = [packet.pts for packet in pictures if packet.is_keyframe and packet.pts is not None]
    found |= {"frames": len(pictures), "keyframes": len(keyframes)}
    if not pictures:
        raise Unusable("it holds no frames")
    if stream.frames and stream.frames != len(packets) and (there := _count(file)) < stream.frames:
        raise Unusable(f"it was cut off: it lists {counted(stream.frames, 'frame')}, but holds {there}")
    if not packets[0].is_keyframe:
        raise Unusable("it does not begin with a keyframe")
    header, _ = read_header(HandedFile(file), os.fstat(file).st_size)
    check_edits(video_track(header))
    if len(times) < len(pictures) or stream.time_base is None:
        raise Unusable("some frames have no timestamp")
    found["fps"] = _rate(sorted(times), stream.time_base)
    codec.thread_count = 1
    size = codec.height, codec.width
    codec.options = decoder_limits(*size) | {"err_detect": "explode"}
    _decode(container, stream, 0, 1, size)
    # Of those up to the last picture: an edit list may hide what comes after it.
    end = max(times)
    last = max(each.pts for each in packets if each.is_keyframe and each.pts is not None and each.pts <= end)
    _decode(container, stream, last, sum(time >= last for time in times), size)
    # Exports read these tables themselves: what FFmpeg passes over there would end them.
    read_samples(header, os.fstat(file).st_size)


class _Packet(NamedTuple):
    """What is kept of a packet: not its bytes, which are all that a file has."""

    pts: int | None
    is_keyframe: bool
    is_discard: bool


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[_Packet]:
    """Raises Unusable if there are more than MAX_PICTURES."""
    # Those without bytes count, too: of them a small file can list any number.
    for count, packet in enumerate(container.demux(stream)):
        if count > MAX_PICTURES:
            raise Unusable(f"it has more than {MAX_PICTURES} pictures: send it in several parts")
        if packet.size:
            yield _Packet(packet.pts, packet.is_keyframe, packet.is_discard)


def _count(file: int) -> int:
    """How many pictures the file has, including those that an edit list hides and no shown picture needs."""
    with closing(open_mp4(HandedFile(file), advanced_editlist="0")) as container:
        return sum(1 for _ in _packets(container, container.streams.video[0]))


def _rate(shown: list[int], tick_s: Fraction) -> float | None:
    """Pictures per second, None for a single picture; raises Unusable if they come at irregular times."""
    if len(shown) == 1:
        return None
    period = (shown[-1] - shown[0]) / (len(shown) - 1)
    if period <= 0:
        raise Unusable("all frames have the same timestamp")
    for number, time in enumerate(shown):
        if abs(time - shown[0] - number * period) > max(PTS_TOLERANCE * period, 1):
            raise Unusable(
                f"frame {number} is not at the time its number implies: frames are not evenly spaced"
            )
    return float(1 / (period * tick_s))


def _decode(
    container: InputContainer, stream: VideoStream, keyframe: int, wanted: int, size: tuple[int, int]
) -> None:
    """Decode `wanted` pictures from a keyframe on; raises Unusable."""
    container.seek(keyframe, stream=stream)
    where = "the first frames" if keyframe == 0 else "the last frames"
    decoded = 0
    try:
        for picture in container.decode(stream):
            check_size(picture, *size)
            if picture.rotation:
                raise Unusable(
                    f"players rotate its pictures by {abs(picture.rotation)} degrees, but "
                    f"datasets have no rotation: rotate the pictures themselves (ffmpeg -i "
                    "turned.mp4 upright.mp4)"
                )
            if picture.is_corrupt:
                raise Unusable(f"{where} are damaged")
            decoded += 1
            if decoded == wanted:
                return
    except av.error.FFmpegError as error:
        raise Unusable(f"{where} can't be decoded: {error.strerror}") from error
    raise Unusable(f"{where} can't be decoded: got {decoded} of {wanted}")


if __name__ == "__main__":
    main()
