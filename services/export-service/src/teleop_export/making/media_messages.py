"""Messages to and from `media_worker`, which handles the pictures that robots have sent.

Numbers come as bytes of int64. Files come with the message (teleop_runtime.confined.handed), by `key` later.
"""

from msgspec import Struct, msgpack
from teleop_dataset.v3.info import VideoFeature


class Hello(Struct, frozen=True, tag=True):
    """The first message; `camera`: what its pictures are to become. Answered by Ready."""

    camera: VideoFeature | None


class Open(Struct, frozen=True, tag=True):
    """Comes with a file; answered by Opened."""

    key: int


class Close(Struct, frozen=True, tag=True):
    """Answered by Done."""

    key: int


class Look(Struct, frozen=True, tag=True):
    """How bright pictures are, each counted so many times; answered by Levels."""

    key: int
    numbers: bytes
    times: bytes


class Begin(Struct, frozen=True, tag=True):
    """A file to encode into, which comes with this; answered by Done."""

    fps: int


class Encode(Struct, frozen=True, tag=True):
    """Pictures to encode, each shown so many times; answered by Done."""

    key: int
    numbers: bytes
    times: bytes


class Finish(Struct, frozen=True, tag=True):
    """Complete the file that is being encoded; answered by Done."""


class Convert(Struct, frozen=True, tag=True):
    """Pictures as a decoder takes them that knows nothing but packets; answered by Packets."""

    key: int
    numbers: bytes


class DescribeAt(Struct, frozen=True, tag=True):
    """What `stsd` says at another rate; answered by Description."""

    key: int
    fps: int


class Ready(Struct, frozen=True, tag=True):
    """missing: how this system does not confine the process, in words."""

    missing: list[str]


class Opened(Struct, frozen=True, tag=True):
    """What PictureTable tells; keyframe: bytes of bool."""

    codec: str
    pix_fmt: str
    extradata: bytes
    height: int
    width: int
    description: bytes
    keyframe: bytes
    sizes: bytes
    offset: bytes
    pictures: int
    hides: bool
    in_order: bool


class Levels(Struct, frozen=True, tag=True):
    """Of PictureLevels."""

    counts: bytes
    pictures: int


class Packets(Struct, frozen=True, tag=True):
    packets: list[bytes]


class Description(Struct, frozen=True, tag=True):
    description: bytes


class Done(Struct, frozen=True, tag=True):
    pass


class Unreadable(Struct, frozen=True, tag=True):
    """The file is at fault."""

    detail: str


class Failed(Struct, frozen=True, tag=True):
    """Something else is: an error that nobody foresaw, with its traceback."""

    detail: str


Request = Hello | Open | Close | Look | Begin | Encode | Finish | Convert | DescribeAt
Answer = Ready | Opened | Levels | Packets | Description | Done | Unreadable | Failed

encode_message = msgpack.Encoder().encode
decode_request = msgpack.Decoder(Request).decode
decode_answer = msgpack.Decoder(Answer).decode
