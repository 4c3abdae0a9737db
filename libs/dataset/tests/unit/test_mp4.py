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
    """With moov in front, every frame that is there as a whole counts."""
    with av.open(io.BytesIO(FASTSTART)) as file:
        ends = [packet.pos + packet.size for packet in file.demux(video=0) if packet.size]
    whole = read_movie(io.BytesIO(FASTSTART), len(FASTSTART))
    for length in range(whole.media_begin, len(FASTSTART)):
        movie = read_movie(io.BytesIO(FASTSTART[:length]), length)
        assert movie.frames == FRAMES
        assert movie.whole_frames == sum(end <= length for end in ends)


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
    with pytest.raises(BrokenFile, match="lie nowhere"):
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
