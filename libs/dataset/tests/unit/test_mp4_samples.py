"""What an mp4's tables tell is what a library finds that demuxes it."""

from fractions import Fraction

import av
import numpy as np
import pytest
from teleop_dataset.errors import BrokenFile
from teleop_dataset.mp4 import read_header
from teleop_dataset.mp4_samples import read_samples, samples_of
from teleop_testing.datasets.edit_lists import edited


def make(path, *, codec="libx264", frames=20, rate=30, options=None, gop=1, b_frames=0, muxer=None):
    """An mp4 of noise, so that no two pictures are of the same size."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.gop_size, stream.max_b_frames = gop, b_frames
        for number in range(frames):
            picture = noise.integers(0, 256, (64, 96, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path):
    with path.open("rb") as file:
        header, _ = read_header(file, path.stat().st_size)
    return read_samples(header, path.stat().st_size)


def demuxed(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (packet.pos, packet.size, packet.pts * stream.time_base, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size
        ]


def told(samples):
    times = [Fraction(pts, samples.ticks_per_s) for pts in samples.pts.tolist()]
    return list(
        zip(samples.offset.tolist(), samples.size.tolist(), times, samples.keyframe.tolist(), strict=True)
    )


@pytest.mark.parametrize(
    "about",
    [
        {"options": {"preset": "ultrafast"}},
        {"options": {"preset": "ultrafast"}, "muxer": {"movflags": "+faststart"}},
        {"gop": 5, "options": {"preset": "ultrafast"}},
        {"gop": 8, "b_frames": 2},
        {"rate": Fraction(30000, 1001)},
        {"codec": "libsvtav1", "options": {"preset": "12"}, "gop": 2},
        {"frames": 1},
    ],
)
def test_tables_tell_what_demuxing_finds(tmp_path, about):
    """Where each picture lies, how large it is, when it is shown, and which are keyframes."""
    path = make(tmp_path / "a.mp4", **about)
    assert told(read(path)) == demuxed(path)


def test_files_encoded_alike_have_the_same_description(tmp_path):
    """Whatever their bit rate and length; others have another one."""
    one, longer = make(tmp_path / "a.mp4"), make(tmp_path / "b.mp4", frames=60)
    other = make(tmp_path / "c.mp4", options={"profile": "baseline"})
    assert read(one).description == read(longer).description != read(other).description


def test_edited_video_is_left_to_a_library(tmp_path):
    """An edit list that shows only a part: what is hidden is no picture."""
    path = make(tmp_path / "a.mp4", gop=20)
    data = path.read_bytes()
    begin = data.index(b"elst") + 4
    # A duration of a third of a second, in the movie's ticks of 1/1000 s.
    path.write_bytes(data[: begin + 8] + (333).to_bytes(4, "big") + data[begin + 12 :])
    assert read(path) is None
    samples = samples_of(path)
    assert told(samples) == demuxed(path)
    with av.open(str(path)) as container:
        assert samples.shown.sum() == sum(1 for _ in container.decode(video=0)) < 20


PAUSE = (5, None)


@pytest.mark.parametrize(
    "edits", [[(20, 0)], [PAUSE, (20, 0)], [PAUSE, PAUSE, (20, 0)], [(10, 5)], [PAUSE, (7, 9)]]
)
@pytest.mark.parametrize("gop", [1, 5, 20])
def test_one_stretch_is_what_a_library_shows(tmp_path, edits, gop):
    """Of its beginning, middle or all of it, with or without a pause before it."""
    path = make(tmp_path / "a.mp4", gop=gop)
    path.write_bytes(edited(path.read_bytes(), edits))
    samples = samples_of(path)
    frames, begin = edits[-1]
    with av.open(str(path)) as container:
        assert samples.shown.sum() == sum(1 for _ in container.decode(video=0)) == frames
    whole = samples_of(make(tmp_path / "whole.mp4", gop=gop))
    assert samples.size[samples.shown].tolist() == whole.size[begin : begin + frames].tolist()


@pytest.mark.parametrize(
    "edits", [[(5, 0), (5, 10)], [(5, 0), PAUSE, (5, 5)], [(20, 0), PAUSE], [(5, 10), (5, 0)]]
)
def test_several_stretches_are_refused_by_name(tmp_path, edits):
    """Players differ on them, and what a library hands out is not always what it shows."""
    path = make(tmp_path / "a.mp4", gop=5)
    path.write_bytes(edited(path.read_bytes(), edits))
    with pytest.raises(BrokenFile, match=f"its edit list has {len(edits)} parts"):
        samples_of(path)


def test_a_file_that_ends_within_its_video_is_refused(tmp_path):
    """Its tables promise what is not there."""
    path = make(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BrokenFile, match="ends"):
        read(path)


def test_damage_is_refused_by_name(tmp_path):
    """Any damaged bytes of the head: the tables are read, or BrokenFile tells; nothing else happens."""
    path = make(tmp_path / "a.mp4", frames=5)
    sound = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        data = bytearray(sound)
        for position in random.integers(0, data.index(b"mdat"), 3):
            data[position] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            read(path)
        except BrokenFile:
            refused += 1
    assert refused
