"""Reads the boxes of mp4 files: how many frames there are and where each is, without a video library.

Format: ISO/IEC 14496-12 (boxes `moov`, `mdat`, `mvhd`, `mdhd`, `hdlr`, `elst`, `stts`, `ctts`, `stsz`,
`stsc`, `stco`, `co64`).
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, dropwhile, pairwise
from typing import Protocol

from teleop_schema.words import counted

from teleop_dataset.errors import BrokenFile

# `moov` is read as a whole. A frame takes about 20 bytes of it, so a day at 30 fps fits.
MAX_MOVIE_HEADER_BYTES = 64 * 1024**2
# A normal file has a handful; only a malicious file has this many.
MAX_BOXES = 10_000
# More than a day at 30 fps. Each takes 100 bytes of memory while they are looked at, and none of a file that
# says that all have the same size.
MAX_FRAMES = 3_000_000


class Readable(Protocol):
    """An open file, as far as it is read here."""

    def seek(self, offset: int, /) -> int: ...

    def read(self, size: int, /) -> bytes | None: ...


_BOX = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")
MAX_BOX_HEAD_BYTES = _BOX.size + _LARGE.size
_SAMPLE_TABLE = (b"mdia", b"minf", b"stbl")
# Of a list: version, flags and how many entries.
_LIST_HEAD_BYTES = 8
# Of an edit: nothing is shown for a while.
_PAUSE = -1
# More than are read of an edit list; one is all that a recorder writes.
MAX_EDITS = 1000
# A 16.16 fixed point number.
_NORMAL_SPEED = 1 << 16


@dataclass(frozen=True)
class Movie:
    """The video of an mp4 file.

    frames        number of frames that players show
    whole_frames  how many of them, from the first on, are complete in the file
    media_begin   where the payload of `mdat` begins
    media_bytes   its intended length; the file may be shorter
    """

    frames: int
    whole_frames: int
    media_begin: int
    media_bytes: int


def read_movie(file: Readable, size_bytes: int) -> Movie:
    """The video of the file; raises BrokenFile if there is none, or its table can't be read."""
    header, media = read_header(file, size_bytes)
    track = video_track(header)
    table = dict(read_boxes(find_box(track, *_SAMPLE_TABLE)))
    sizes, offsets = list_samples(table)
    missing = [offset + size > size_bytes for size, offset in zip(sizes, offsets, strict=True)]
    shown, lost_from = _shown(header, track, table, missing)
    return Movie(len(shown), sum(time < lost_from for time in shown), *media)


def _shown(
    header: memoryview, track: memoryview, table: Mapping[bytes, memoryview], missing: Sequence[bool]
) -> tuple[Sequence[int], float]:
    """The time of each picture that players show, and of the first of `missing` (for each sample).

    If tables or edit lists are unlike LeRobot's, all pictures count, in the order of decoding.
    """
    edit, ticks = only_edit(header, track), ticks_per_s(find_box(track, b"mdia", b"mdhd"))
    steps = _runs(table.get(b"stts"), len(missing), "I")
    shifts = _runs(table[b"ctts"], len(missing), "i") if b"ctts" in table else [0] * len(missing)
    if edit is None or steps is None or shifts is None:
        times: Sequence[int] = range(len(missing))
        shown = times
    else:
        begin, end = edit[0], edit[0] + edit[1] * ticks
        times = [dts + shift for dts, shift in zip(accumulate(steps, initial=0), shifts, strict=False)]
        shown = [time for time in times if begin <= time < end]
    lost = [time for time, gone in zip(times, missing, strict=True) if gone]
    return shown, min(lost, default=math.inf)


def only_edit(header: memoryview, track: memoryview) -> tuple[int, float] | None:
    """The tick from which the track is shown, and for how many seconds; None if it is not one stretch.

    header, track  contents of `moov` and its `trak`; raises BrokenFile
    """
    edits = dict(read_boxes(track)).get(b"edts")
    if edits is None:
        return 0, math.inf
    box = find_box(edits, b"elst")
    entry = struct.Struct(">QqI" if len(box) and box[0] == 1 else ">IiI")
    if len(box) != 8 + entry.size or struct.unpack_from(">I", box, 4)[0] != 1:
        return None
    duration, begin, speed = entry.unpack_from(box, 8)
    movie_ticks = ticks_per_s(find_box(header, b"mvhd"))
    if speed != _NORMAL_SPEED or begin < 0 or not duration or not movie_ticks:
        return None
    return begin, duration / movie_ticks


def check_edits(track: memoryview) -> None:
    """Raise BrokenFile unless the track shows one stretch of its video, if need be after a pause.

    What several stretches show depends on the player: FFmpeg repeats pictures around a pause, and where a
    stretch begins between keyframes it hands out the pictures before it at times that others have, too.

    track  what `trak` holds
    """
    edits = dict(read_boxes(track)).get(b"edts")
    if edits is None:
        return
    box = find_box(edits, b"elst")
    entry = struct.Struct(">QqI" if len(box) and box[0] == 1 else ">IiI")
    count = min(len(box) - _LIST_HEAD_BYTES, MAX_EDITS * entry.size) // entry.size
    begins = [entry.unpack_from(box, _LIST_HEAD_BYTES + at * entry.size)[1] for at in range(count)]
    shown = len(list(dropwhile(lambda begin: begin == _PAUSE, begins)))
    if shown > 1:
        raise BrokenFile(
            f"its edit list has {shown} parts, which players show in different ways; write it again as one "
            "(ffmpeg -i edited.mp4 plain.mp4)"
        )


def ticks_per_s(box: memoryview) -> int:
    """Of an `mvhd` or `mdhd`; 0 if it is cut off."""
    at = 20 if len(box) and box[0] == 1 else 12
    return int(struct.unpack_from(">I", box, at)[0]) if len(box) >= at + 4 else 0


def _runs(box: memoryview | None, samples: int, code: str) -> list[int] | None:
    """A value per sample from a table of (how many samples, value); None if the number of samples is
    another."""
    if box is None or len(box) < 8:
        return None
    values: list[int] = []
    for count, value in struct.iter_unpack(f">I{code}", box[8 : 8 + (len(box) - 8) // 8 * 8]):
        if count > samples - len(values):
            return None
        values += [value] * count
    return values if len(values) == samples else None


def read_header(file: Readable, size_bytes: int) -> tuple[memoryview, tuple[int, int]]:
    """The content of `moov`, the start of the payload of `mdat`, and its intended length.

    Raises BrokenFile.
    """
    header: bytes | None = None
    media: tuple[int, int] | None = None
    for kind, begin, end in _file_boxes(file, size_bytes):
        if kind == b"moof":
            raise BrokenFile("a fragmented mp4, which LeRobot never writes")
        if kind == b"mdat" and media is None:
            media = (begin, end - begin)
        if kind == b"moov" and header is None:
            if end - begin > MAX_MOVIE_HEADER_BYTES:
                raise BrokenFile("the mp4's moov is too large", limit=MAX_MOVIE_HEADER_BYTES)
            file.seek(begin)
            header = file.read(end - begin) or b""
            if len(header) < end - begin:
                raise BrokenFile("the mp4 ends within its moov")
    if header is None or media is None:
        raise BrokenFile("the mp4 has no moov yet" if header is None else "the mp4 has no mdat")
    return memoryview(header), media


def _file_boxes(file: Readable, size_bytes: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each outermost box's content; the last may reach beyond the file."""
    position = 0
    for _ in range(MAX_BOXES):
        # A length may name any byte of 2^64, and no file can be asked for that.
        if position >= size_bytes:
            return
        file.seek(position)
        box = outer_box(file.read(MAX_BOX_HEAD_BYTES) or b"", position, size_bytes)
        if box is None:
            return
        yield box
        position = box[2]
    raise BrokenFile(f"the mp4 has more than {MAX_BOXES} boxes", limit=MAX_BOXES)


def outer_box(head: bytes, position: int, size_bytes: int) -> tuple[bytes, int, int] | None:
    """Kind, begin and end of the content of the box at `position` of a file; None if none fits there.

    head  the file's MAX_BOX_HEAD_BYTES from there on, or what there is of them; raises BrokenFile
    """
    if position + _BOX.size > size_bytes or len(head) < _BOX.size:
        return None
    length, kind = _BOX.unpack_from(head)
    begin = position + _BOX.size
    if length == 1:
        if len(head) < MAX_BOX_HEAD_BYTES:
            return None
        length = _LARGE.unpack_from(head, _BOX.size)[0]
        begin += _LARGE.size
    end = size_bytes if length == 0 else position + length
    if end < begin:
        raise BrokenFile("an mp4 box is shorter than its header")
    return kind, begin, end


def read_boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box in `data`."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + _BOX.size > len(data):
            return
        length, kind = _BOX.unpack_from(data, position)
        if not _BOX.size <= length <= len(data) - position:
            raise BrokenFile("an mp4 box does not fit in its parent")
        yield kind, data[position + _BOX.size : position + length]
        position += length
    raise BrokenFile(f"the mp4 has more than {MAX_BOXES} boxes", limit=MAX_BOXES)


def find_box(data: memoryview, *path: bytes) -> memoryview:
    """The content of the first box at `path`, kind within kind; raises BrokenFile."""
    for wanted in path:
        found = next((content for kind, content in read_boxes(data) if kind == wanted), None)
        if found is None:
            raise BrokenFile(f"the mp4 has no {wanted.decode()}")
        data = found
    return data


def video_track(header: memoryview) -> memoryview:
    """The first video track in `moov`; raises BrokenFile."""
    for kind, track in read_boxes(header):
        if kind == b"trak" and bytes(find_box(track, b"mdia", b"hdlr")[8:12]) == b"vide":
            return track
    raise BrokenFile("the mp4 has no video")


def list_samples(table: Mapping[bytes, memoryview]) -> tuple[list[int], list[int]]:
    """Size and offset of each frame of a track, in the order of decoding; raises BrokenFile.

    table  the boxes of its `stbl`
    """
    if missing := {b"stsz", b"stsc"} - table.keys():
        raise BrokenFile(f"the mp4 has no {min(missing).decode()}")
    sizes = _sizes(table[b"stsz"])
    if b"co64" in table:
        chunks = _numbers(table[b"co64"], 1, "Q")
    elif b"stco" in table:
        chunks = _numbers(table[b"stco"], 1, "I")
    else:
        raise BrokenFile("the mp4 has no stco")
    return sizes, _offsets(sizes, _numbers(table[b"stsc"], 3, "I"), chunks)


def _sizes(box: memoryview) -> list[int]:
    if len(box) < 12:
        raise BrokenFile("the mp4's stsz is cut off")
    each, count = struct.unpack_from(">II", box, 4)
    if count > MAX_FRAMES or (not each and 12 + 4 * count > len(box)):
        raise BrokenFile(f"the mp4 would have {counted(count, 'frame')}", limit=MAX_FRAMES)
    return [each] * count if each else list(struct.unpack_from(f">{count}I", box, 12))


def _numbers(box: memoryview, width: int, code: str) -> list[int]:
    """The entries of a box that is a list, with `width` numbers each."""
    count = struct.unpack_from(">I", box, 4)[0] * width if len(box) >= 8 else -1
    entries = struct.Struct(f">{max(count, 0)}{code}") if count <= MAX_FRAMES else None
    if count < 0 or entries is None or 8 + entries.size > len(box):
        raise BrokenFile("a table of the mp4 is cut off")
    return list(entries.unpack_from(box, 8))


def _offsets(sizes: list[int], runs: list[int], chunks: list[int]) -> list[int]:
    """The place of each sample; `runs` (first chunk from 1, samples per chunk, …) say how chunks are
    filled."""
    firsts, fills = runs[0::3], runs[1::3]
    if any(after <= before for before, after in pairwise([0, *firsts])):
        raise BrokenFile("the mp4's stsc does not ascend")
    ends = [*(first - 1 for first in firsts[1:]), len(chunks)] if firsts else []
    offsets: list[int] = []
    for first, fill, end in zip(firsts, fills, ends, strict=True):
        for position in chunks[first - 1 : end]:
            follow = sizes[len(offsets) : len(offsets) + fill]
            offsets += list(accumulate(follow, initial=position))[: len(follow)]
    if len(offsets) != len(sizes):
        raise BrokenFile("the mp4 has frames without a position")
    return offsets
