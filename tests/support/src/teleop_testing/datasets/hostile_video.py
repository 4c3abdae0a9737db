"""Video that was made to harm whatever looks into it."""

import io
import struct
from collections.abc import Callable

import av
from av.video.stream import VideoStream

from teleop_testing.datasets.files import encode_video, growing_video

PICTURES = 50


def _changed(content: bytes, box: bytes, at: int, value: int) -> bytes:
    """With another number of 32 bits, so many bytes behind a box's name."""
    begin = content.index(box) + 4 + at
    return content[:begin] + struct.pack(">I", value) + content[begin + 4 :]


def _other_codec() -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=30)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(PICTURES):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode())
    return content.getvalue()


def _elsewhere() -> bytes:
    """Its pictures lie in another file: the entry of `dref` loses the flag "in this one"."""
    return _changed(_sound(), b"url ", 0, 0)


def _sound() -> bytes:
    return encode_video(PICTURES)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "late huge picture": lambda: growing_video([(48, 64)] * (PICTURES - 1) + [(4096, 4096)]),
    "no mp4": lambda: b"<html></html>" * 1000,
    "playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n" * 100,
    "other codec": _other_codec,
    "cut off": lambda: _sound()[:-500],
    "sizes that lie": lambda: _changed(_sound(), b"stsz", 12, 0x7FFFFFFF),
    "ten million pictures": lambda: _changed(_changed(_sound(), b"stsz", 4, 1), b"stsz", 8, 9_999_999),
    "endless empty pictures": lambda: _changed(_sound(), b"stts", 8, 0xFFFFFFFF),
    "many places": lambda: _changed(_sound(), b"stco", 4, 0x7FFFFFFF),
    "elsewhere": _elsewhere,
    "width": lambda: _changed(_sound(), b"avc1", 24, 0xFFFFFFFF),
}
# Their pictures can be read all the same: no decoder follows what these headers say.
HARMLESS = ("elsewhere", "width")
