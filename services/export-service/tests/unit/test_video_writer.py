"""Packets of recorded pictures in new files: which can be copied, and what decoders make of them."""

from contextlib import closing
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import read_frame_counter, render
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.layout import LEROBOTS_LIMITS, ONE_FILE, FileLimits
from teleop_export.errors import NotStreamable, VideoUnreadable
from teleop_export.making.picture_file import PictureFile
from teleop_export.making.picture_table import SegmentPictures
from teleop_export.making.video_writer import VideoSeries, encode, look
from teleop_testing.datasets.files import growing_video, hide_first

CAMERA = VideoFeature("front", 48, 64, "h264", "yuv420p")
FPS = 30
SLICE, IDR, SPS, AUD = 1, 5, 7, 9


def make(path, pictures=20, *, gop=1, first=0, threads=1, options=None):
    """A segment of H.264 whose pictures have the numbers from `first` on."""
    with av.open(str(path), "w") as container:
        settings = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0", **(options or {})}
        stream = container.add_stream("libx264", rate=FPS, options=settings)
        stream.height, stream.width, stream.pix_fmt = CAMERA.height, CAMERA.width, "yuv420p"
        stream.gop_size, stream.max_b_frames, stream.codec_context.thread_count = gop, 0, threads
        for number in range(pictures):
            pixels = render("front", REST, first + number, height=CAMERA.height, width=CAMERA.width)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_only_pictures_that_are_shown_have_a_number(tmp_path):
    """What was cut without being encoded holds others, too: they are decoded, counted and copied never."""
    path = make(tmp_path / "whole.mp4", gop=20)
    path.write_bytes(hide_first(path.read_bytes(), 7))
    with PictureFile(path) as segment:
        assert segment.pictures == 13
        found = segment.decode(np.array([0, 5, 12]))
        seen = [(number, read_frame_counter(each.to_ndarray(format="rgb24"))) for number, each in found]
        looked = look([SegmentPictures(segment, np.arange(13))], CAMERA)
    assert seen == [(0, 7), (5, 12), (12, 19)]
    assert "not shown" in looked.obstacle


def write(root, *episodes, limits=LEROBOTS_LIMITS):
    """The episodes' clips; each is a list of parts."""
    looked = [look(parts, CAMERA) for parts in episodes]
    rows = sum(each.pictures for each in looked)
    with closing(VideoSeries(root, CAMERA, FPS, limits, rows)) as series:
        return [series.add(parts, each) for parts, each in zip(episodes, looked, strict=True)]


def file(root, number=0):
    return root / f"videos/{CAMERA.key}/chunk-000/file-{number:03d}.mp4"


def counters(path):
    with av.open(str(path)) as container:
        return [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("gop", "numbers", "copied"),
    [
        (1, [3, 3, 3, 7, 8, 8, 19], True),
        (2, [0, 1, 2, 3], True),
        (2, [2, 3, 6], True),
        (2, [4, 4, 5], True),
        (2, [1, 2], False),
        (2, [0, 1, 1], False),
        (5, [5, 6, 8], False),
    ],
)
def test_packets_are_copied_only_where_they_can_be_decoded(tmp_path, gop, numbers, copied):
    """A keyframe can follow anything, any other picture only the one it was recorded behind."""
    with PictureFile(make(tmp_path / "segment.mp4", gop=gop)) as segment:
        parts = [SegmentPictures(segment, np.array(numbers))]
        looked = look(parts, CAMERA)
        assert (looked.obstacle is None) == copied
        if copied:
            assert looked.size_bytes == sum(len(data) for _, data in segment.packets(np.array(numbers)))
            (clip,) = write(tmp_path, parts)
            assert (clip.from_s, clip.to_s) == (0.0, len(numbers) / FPS)
            assert counters(file(tmp_path)) == numbers


def bits_of(payload):
    """The bits of a NAL unit, without what keeps start codes out of it (ITU-T H.264, 7.4.1)."""
    return "".join(f"{byte:08b}" for byte in payload[:64].replace(b"\x00\x00\x03", b"\x00\x00"))


class Bits:
    def __init__(self, payload):
        self.bits, self.position = bits_of(payload), 0

    def take(self, count):
        self.position += count
        return int(self.bits[self.position - count : self.position] or "0", 2)

    def exp_golomb(self):
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)


def frame_num_bits(extradata):
    """log2_max_frame_num of the baseline profile's parameter set (7.3.2.1.1)."""
    length = int.from_bytes(extradata[6:8], "big")
    bits = Bits(extradata[8 + 4 : 8 + length])
    bits.exp_golomb()
    return bits.exp_golomb() + 4


def access_units(path):
    """How many pictures a decoder finds that goes by the bit stream alone, as browsers' and hardware's do.

    One begins behind a delimiter, or where two keyframes' idr_pic_id differ (7.4.1.2.4).
    """
    found, before, delimited = 0, None, True
    with av.open(str(path)) as container:
        width = frame_num_bits(bytes(container.streams.video[0].codec_context.extradata))
        for packet in container.demux(video=0):
            data = bytes(packet)
            while data:
                length = int.from_bytes(data[:4], "big")
                unit, data = data[4 : 4 + length], data[4 + length :]
                kind = unit[0] & 0x1F
                if kind in (AUD, SPS):
                    delimited = True
                elif kind == IDR:
                    bits = Bits(unit[1:])
                    bits.exp_golomb(), bits.exp_golomb(), bits.exp_golomb(), bits.take(width)
                    idr_pic_id = bits.exp_golomb()
                    found += delimited or idr_pic_id != before
                    before, delimited = idr_pic_id, False
                elif kind == SLICE:
                    found += 1
                    before = None
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "numbers",
    [range(20), [0] * 20, range(0, 20, 2), [4, 4, 5, 5, 6, 6, 9, 11, 13], [1, 3, 3, 19]],
)
def test_pictures_in_a_row_are_told_apart_by_the_bit_stream(tmp_path, numbers, threads):
    """Repeated ones, and every second one, which has the same idr_pic_id; pictures of several slices, too."""
    numbers = list(numbers)
    with PictureFile(make(tmp_path / "segment.mp4", threads=threads)) as segment:
        write(tmp_path, [SegmentPictures(segment, np.array(numbers))])
    assert counters(file(tmp_path)) == numbers
    assert access_units(file(tmp_path)) == len(numbers)


def test_segments_and_episodes_are_told_apart_as_well(tmp_path):
    """The last picture of one and the first of the next may have the same idr_pic_id too."""
    with (
        PictureFile(make(tmp_path / "a.mp4", 9)) as one,
        PictureFile(make(tmp_path / "b.mp4", 9, first=9)) as two,
    ):
        episodes = [
            [SegmentPictures(one, np.arange(9)), SegmentPictures(two, np.arange(3))],
            [SegmentPictures(two, np.arange(3, 9))],
            [SegmentPictures(one, np.arange(8, 9)), SegmentPictures(two, np.arange(9))],
        ]
        write(tmp_path, *episodes)
    assert counters(file(tmp_path)) == [*range(18), 8, *range(9, 18)]
    assert access_units(file(tmp_path)) == 28


def test_other_settings_begin_another_file(tmp_path):
    """One file has one set of parameters; within an episode they may not change."""
    with (
        PictureFile(make(tmp_path / "a.mp4")) as one,
        PictureFile(make(tmp_path / "b.mp4", options={"profile": "main", "preset": "medium"})) as two,
    ):
        assert one.kind.extradata != two.kind.extradata
        clips = write(tmp_path, [SegmentPictures(one, np.arange(5))], [SegmentPictures(two, np.arange(5))])
        assert [clip.place.file for clip in clips] == [0, 1]
        assert [clip.from_s for clip in clips] == [0.0, 0.0]
        both = [SegmentPictures(one, np.arange(5)), SegmentPictures(two, np.arange(5))]
        assert "encoded differently" in look(both, CAMERA).obstacle


def test_times_are_exact(tmp_path):
    """Picture k at k / fps, to the last tick, and as long as any other."""
    with PictureFile(make(tmp_path / "segment.mp4")) as segment:
        write(
            tmp_path,
            [SegmentPictures(segment, np.arange(20))],
            [SegmentPictures(segment, np.arange(0, 20, 3))],
        )
    with av.open(str(file(tmp_path))) as container:
        stream = container.streams.video[0]
        times = [packet.pts * stream.time_base for packet in container.demux(stream) if packet.size]
        assert stream.average_rate == stream.base_rate == FPS
        assert stream.duration * stream.time_base == Fraction(27, FPS)
    assert times == [Fraction(number, FPS) for number in range(27)]
    assert all(after - before == Fraction(1, FPS) for before, after in pairwise(times))


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("h264", "yuv420p"), ("h264", "yuv444p"), ("h264", "gbrp"), ("hevc", "yuv420p"), ("av1", "yuv420p")],
)
def test_pictures_are_encoded_like_those_beside_them(tmp_path, codec, pix_fmt):
    """Of any kind that a camera's video may have, so that they can be copied then."""
    camera = VideoFeature("front", 64, 64, codec, pix_fmt)
    with PictureFile(make(tmp_path / "segment.mp4", gop=5)) as segment:
        frames = ((frame, 1 + number % 2) for number, frame in segment.decode(np.arange(8)))
        encode(tmp_path / "encoded.mp4", frames, camera, FPS)
    with PictureFile(tmp_path / "encoded.mp4") as encoded:
        assert look([SegmentPictures(encoded, np.arange(encoded.pictures))], camera).obstacle is None
        assert encoded.keyframe.all()
    assert counters(tmp_path / "encoded.mp4") == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]


@pytest.mark.parametrize("gop", [1, 4])
def test_pictures_are_decoded_by_number(tmp_path, gop):
    """Whichever are wanted, from the keyframe on that they build upon."""
    with PictureFile(make(tmp_path / "segment.mp4", gop=gop)) as segment:
        wanted = np.array([2, 3, 9, 19])
        found = {
            number: read_frame_counter(frame.to_ndarray(format="rgb24"))
            for number, frame in segment.decode(wanted)
        }
    assert found == {number: number for number in wanted.tolist()}


def test_one_file_is_one_file_or_none(tmp_path):
    """Where all video of a camera must be in one file, what can't follow is refused by name."""
    with (
        PictureFile(make(tmp_path / "one.mp4")) as one,
        PictureFile(make(tmp_path / "other.mp4", options={"level": "4"})) as other,
    ):
        every = np.arange(4)
        clips = write(tmp_path, [SegmentPictures(one, every)], [SegmentPictures(one, every)], limits=ONE_FILE)
        assert [clip.place.file for clip in clips] == [0, 0]
        assert one.kind.extradata != other.kind.extradata
        assert (
            write(tmp_path, [SegmentPictures(one, every)], [SegmentPictures(other, every)])[1].place.file == 1
        )
        with pytest.raises(NotStreamable, match="front"):
            write(tmp_path, [SegmentPictures(one, every)], [SegmentPictures(other, every)], limits=ONE_FILE)


def test_file_plays_while_it_is_fetched(tmp_path):
    """The tables come first, with room left where fewer pictures came than there might have."""
    with PictureFile(make(tmp_path / "segment.mp4", 20)) as segment:
        parts = [SegmentPictures(segment, np.arange(20))]
        looked = look(parts, CAMERA)
        with closing(VideoSeries(tmp_path, CAMERA, FPS, LEROBOTS_LIMITS, 5000)) as series:
            series.add(parts, looked)
    data = file(tmp_path).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"free") < data.index(b"mdat")
    assert counters(file(tmp_path)) == list(range(20))


def test_file_without_room_for_an_episode_s_tables_is_followed_by_another(tmp_path):
    """Room is kept for what is likely: pictures that are much smaller than the first are too many for it."""
    limits = FileLimits(1, 0.02, one_file=False)
    with (
        PictureFile(make(tmp_path / "large.mp4", 4, options={"preset": "ultrafast"})) as large,
        PictureFile(make(tmp_path / "small.mp4", 40, options={"preset": "ultrafast"})) as small,
    ):
        assert large.kind.extradata == small.kind.extradata
        episodes = [[SegmentPictures(large, np.arange(1))]]
        episodes += [[SegmentPictures(small, np.arange(at, at + 4))] for at in range(0, 40, 4)]
        clips = write(tmp_path, *episodes, limits=limits)
    assert clips[-1].place.file > 0
    shown = [number for path in sorted(tmp_path.glob("videos/*/*/*.mp4")) for number in counters(path)]
    assert shown == [0, *range(40)]


def test_long_episode_has_a_file_of_its_own(tmp_path, monkeypatch):
    """LeRobot computes times in single precision, which is too little for one that begins late in a file."""
    asked = []

    def found(first, frames, fps):
        asked.append((first, frames, fps))
        return frames < 10

    monkeypatch.setattr("teleop_export.making.video_writer.pictures_are_found", found)
    with PictureFile(make(tmp_path / "segment.mp4")) as segment:
        lengths = (3, 4, 12, 5)
        clips = write(tmp_path, *([SegmentPictures(segment, np.arange(length))] for length in lengths))
    assert [clip.place.file for clip in clips] == [0, 0, 1, 1]
    assert asked == [(3, 4, FPS), (7, 12, FPS), (12, 5, FPS)]


@pytest.mark.parametrize("later", [(4096, 4096), (64, 64)])
def test_a_picture_larger_than_its_file_declares(tmp_path, later):
    """Takes no memory, and becomes no row of a dataset; those before it are read."""
    path = tmp_path / "segment.mp4"
    path.write_bytes(growing_video([(48, 64)] * 3 + [later]))
    with PictureFile(path) as segment:
        assert [number for number, _ in segment.decode(np.arange(3))] == [0, 1, 2]
        with pytest.raises(VideoUnreadable, match="a picture can't be decoded"):
            list(segment.decode(np.arange(4)))
