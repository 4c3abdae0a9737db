"""What the server has confirmed to a robot, and what of it the server does not know (any more).

A database that was restored to an older state, or is new, knows less than it has confirmed.
`POST /files/known` with a Held is answered with Lacking: everything in it must be sent again,
if it is still on the robot.
"""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from teleop_schema.files import CameraKey, Count, Index, Sha256

# Ranges of one camera: with every second segment missing these are five hours.
MAX_HELD = 1000
# In all of a request's HeldVideo together: a day of two cameras.
MAX_HELD_CHUNKS = 20_000

ChunkRange = tuple[Index, Index]


class HeldVersion(Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A version of a dataset, by the hash of its manifest (`files.digest_of`)."""

    dataset: str
    manifest_sha256: Sha256


class HeldVideo(Struct, frozen=True, forbid_unknown_fields=True):
    """Video chunks of one camera of a stream.

    chunks  their numbers, as ranges [first, end), ascending
    """

    stream: UUID
    camera_key: CameraKey
    chunks: Annotated[tuple[ChunkRange, ...], Meta(max_length=MAX_HELD)]

    def __post_init__(self) -> None:
        edges = [edge for chunk_range in self.chunks for edge in chunk_range]
        if any(end <= first for first, end in self.chunks) or edges != sorted(edges):
            raise ValueError("ranges are empty or do not ascend in field `chunks`")


class HeldFrames(Struct, frozen=True, forbid_unknown_fields=True):
    """Frames of a stream: those below `frames`.

    ended  the server has also confirmed that there are no more
    """

    stream: UUID
    frames: Count
    ended: bool


class Held(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a robot holds. A request has at most 20,000 chunks.

    robot_id  name of the robot whose versions they are
    versions  of its datasets
    videos    of its cameras
    frames    of its streams
    """

    robot_id: str
    versions: Annotated[tuple[HeldVersion, ...], Meta(max_length=MAX_HELD)] = ()
    videos: Annotated[tuple[HeldVideo, ...], Meta(max_length=MAX_HELD)] = ()
    frames: Annotated[tuple[HeldFrames, ...], Meta(max_length=MAX_HELD)] = ()


class OvertakenVersion(Struct, frozen=True, order=True):
    """A held version of a dataset that the server has, but that is not the newest one from this robot_id.

    newest  number of the newest one; its content is another
    """

    dataset: str
    manifest_sha256: Sha256
    newest: int


class Lacking(Struct, frozen=True, kw_only=True):
    """The part of it that the server does not have completely.

    installation  name of the server's database; a different one has never confirmed anything
    versions      that it has not
    videos        chunks that it has not
    frames        streams with the server's number of frames, 0 if it does not know the stream
    overtaken     versions that it has, after which another program has stored other content under their
                  name; servers of older releases do not tell
    """

    installation: UUID
    versions: tuple[HeldVersion, ...] = ()
    videos: tuple[HeldVideo, ...] = ()
    frames: tuple[HeldFrames, ...] = ()
    overtaken: tuple[OvertakenVersion, ...] = ()


def ranges_of(numbers: list[int]) -> tuple[ChunkRange, ...]:
    """Ascending numbers as ranges [first, end)."""
    ranges: list[ChunkRange] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = ranges[-1][0], number + 1
        else:
            ranges.append((number, number + 1))
    return tuple(ranges)
