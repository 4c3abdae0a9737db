"""mp4 files whose edit list shows other parts of their video than a recorder's does."""

import struct
from collections.abc import Iterator, Sequence

_WITHIN = (b"moov", b"trak", b"edts")
_NORMAL_SPEED = 1 << 16

Edit = tuple[int, int | None]


def edited(content: bytes, edits: Sequence[Edit], *, rate: int = 30) -> bytes:
    """An mp4 as FFmpeg writes it (`moov` last), with another edit list.

    edits  (how many pictures, from which one on; None: nothing is shown for so long)
    rate   pictures per second
    """
    movie_ticks = _number(content, 12, b"moov", b"mvhd")
    media_ticks = _number(content, 12, b"moov", b"trak", b"mdia", b"mdhd")
    # With pictures that are not decoded in their order, the first one is not shown at 0.
    begin = _number(content, 12, b"moov", b"trak", b"edts", b"elst")
    entries = [
        struct.pack(
            ">IiI",
            frames * movie_ticks // rate,
            -1 if first is None else begin + first * media_ticks // rate,
            _NORMAL_SPEED,
        )
        for frames, first in edits
    ]
    return _replaced(content, struct.pack(">II", 0, len(edits)) + b"".join(entries))


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + size]
        at += size


def _number(content: bytes, at: int, *names: bytes) -> int:
    for name in names:
        content = dict(_boxes(content))[name]
    return int(struct.unpack_from(">I", content, at)[0])


def _replaced(content: bytes, edit_list: bytes) -> bytes:
    made = b""
    for kind, body in _boxes(content):
        if kind == b"elst":
            body = edit_list
        elif kind in _WITHIN:
            body = _replaced(body, edit_list)
        made += struct.pack(">I4s", 8 + len(body), kind) + body
    return made
