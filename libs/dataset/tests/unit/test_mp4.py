"""mp4 files by their boxes, against what PyAV says of the same files."""

import io
import struct
import tempfile

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teleop_dataset.errors import BrokenFile
from teleop_dataset.mp4 import list_samples, read_movie

FRAMES = 37


def encoded(codec: str = "h264", options: dict | None = None) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".mp4") as target:
        with av.open(target.name, "w", options=options or {}) as file:
            stream = file.add_stream(codec, 30, options={"g": "4"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(FRAMES):
                picture = np.full((48, 64, 3), 5 * number, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            file.mux(stream.encode())
        return target.read()


PLAIN = encoded()
FASTSTART = encoded(options={"movflags": "faststart"})


@pytest.mark.parametrize("data", [PLAIN, FASTSTART, encoded("libsvtav1")], ids=["plain", "faststart", "av1"])
def test_frames_and_their_bytes(data):
    """As many frames as were encoded, and mdat is where the first packet lies."""
    movie = read_movie(io.BytesIO(data), len(data))
    assert (movie.frames, movie.whole_frames) == (FRAMES, FRAMES)
    with av.open(io.BytesIO(data)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert data[movie.media_begin :].startswith(bytes(packets[0]))
    assert movie.media_bytes == sum(packet.size for packet in packets)


def test_cut_off_file_has_the_frames_before_the_cut():
    """With moov in front, every picture counts up to the first that is not there as a whole."""
    with av.open(io.BytesIO(FASTSTART)) as file:
        found = [(packet.pos + packet.size, packet.pts) for packet in file.demux(video=0) if packet.size]
    assert [time for _, time in found] != sorted(time for _, time in found)
    whole = read_movie(io.BytesIO(FASTSTART), len(FASTSTART))
    for length in range(whole.media_begin, len(FASTSTART)):
        movie = read_movie(io.BytesIO(FASTSTART[:length]), length)
        assert movie.frames == FRAMES
        lost_from = min(time for end, time in found if end > length)
        assert movie.whole_frames == sum(time < lost_from for _, time in found)


@pytest.mark.parametrize("codec", ["h264", "libsvtav1"])
@pytest.mark.parametrize(("begin", "duration"), [(0, None), (5, None), (8, None), (0, 17), (5, 17)])
def test_frames_are_those_that_players_show(codec, begin, duration):
    """Whatever an edit list hides: at the beginning, at the end, both."""
    data = bytearray(encoded(codec))
    with av.open(io.BytesIO(bytes(data))) as file:
        ticks = round(1 / file.streams.video[0].time_base)
    at = data.index(b"elst") + 4 + 8
    told, first = struct.unpack_from(">Ii", data, at)
    # In the movie's ticks of 1/1000 s, and in the track's.
    told = told if duration is None else 1000 * duration // 30
    struct.pack_into(">Ii", data, at, told, first + begin * ticks // 30)
    with av.open(io.BytesIO(bytes(data))) as file:
        shown = sum(1 for _ in file.decode(video=0))
    movie = read_movie(io.BytesIO(bytes(data)), len(data))
    assert (movie.frames, movie.whole_frames) == (shown, shown)
    assert shown < FRAMES or not (begin or duration)


def test_file_without_its_table_is_no_video():
    """With moov at the end, nothing can be played before it is written."""
    for length in range(0, len(PLAIN) - 1, 7):
        with pytest.raises(BrokenFile):
            read_movie(io.BytesIO(PLAIN[:length]), length)


def test_fragments_are_refused():
    """LeRobot never writes them, and their frames are in no table."""
    data = encoded(options={"movflags": "frag_keyframe+empty_moov"})
    with pytest.raises(BrokenFile, match=r"fragmented|mdat"):
        read_movie(io.BytesIO(data), len(data))


def test_tables_that_would_fill_the_memory_are_refused():
    """A count is checked against the bytes that are there."""
    position = FASTSTART.index(b"stsz") + 4
    data = FASTSTART[: position + 8] + struct.pack(">I", 2**32 - 1) + FASTSTART[position + 12 :]
    with pytest.raises(BrokenFile):
        read_movie(io.BytesIO(data), len(data))
    same_size = data[: position + 4] + struct.pack(">I", 1) + data[position + 8 :]
    with pytest.raises(BrokenFile):
        read_movie(io.BytesIO(same_size), len(same_size))


def test_frames_that_no_chunk_holds_are_refused():
    """A list of chunks' contents may be empty, but then there can be no frames."""
    table = {b"stsz": struct.pack(">4I", 0, 0, 1, 9), b"stsc": bytes(8), b"stco": struct.pack(">3I", 0, 1, 8)}
    with pytest.raises(BrokenFile, match="without a position"):
        list_samples(table)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FASTSTART) - 1), st.integers(1, 255)), min_size=1, max_size=6))
def test_damaged_bytes_are_read_or_refused(flips):
    """Nothing but BrokenFile, and never more whole frames than frames."""
    data = bytearray(FASTSTART)
    for position, mask in flips:
        data[position] ^= mask
    try:
        movie = read_movie(io.BytesIO(bytes(data)), len(data))
    except BrokenFile:
        return
    assert 0 <= movie.whole_frames <= movie.frames
