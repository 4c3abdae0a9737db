"""Repairs of datasets with video that was cut without being encoded: it holds more than players show."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from teleop_dataset.repair import find_sound, repair
from teleop_testing.datasets.repaired import CAMERAS, FRAMES, assert_lerobot_reads, hole

FPS = 30
VIDEO = f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
OTHER = f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4"


def shown(path: Path) -> list[np.ndarray]:
    """Every picture that players show."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def trim(path: Path, hidden: int, *, keyframe: bool, b_frames: int) -> None:
    """Let the mp4 hold `hidden` more pictures before its own, which are not shown.

    keyframe  its own first is one; else it builds upon hidden ones
    """
    pictures = shown(path)
    noise = np.random.default_rng(0).integers(0, 256, (hidden, *pictures[0].shape), np.uint8)
    begins = {hidden + sum(FRAMES[:episode]) for episode in range(0 if keyframe else 1, len(FRAMES))}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", FPS, options={"g": "600", "crf": "18", "sc_threshold": "0"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        for number, picture in enumerate([*noise, *pictures]):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            frame.pict_type = PictureType.I if number in begins else PictureType.NONE
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with av.open(str(path)) as file:
        ticks = round(1 / file.streams.video[0].time_base)
    data = path.read_bytes()
    at = data.index(b"elst") + 4 + 12
    begin = int.from_bytes(data[at : at + 4], "big") + hidden * ticks // FPS
    path.write_bytes(data[:at] + begin.to_bytes(4, "big") + data[at + 4 :])
    assert len(shown(path)) == len(pictures)


@pytest.mark.parametrize(("keyframe", "b_frames"), [(True, 0), (False, 0), (False, 2)])
def test_only_what_players_show_is_counted(recording, tmp_path, keyframe, b_frames):
    """An episode is lost in the middle: the others have the pictures that they had, though it is cut."""
    source = shutil.copytree(recording.state(3, "done"), tmp_path / "torn")
    trim(source / VIDEO, 7, keyframe=keyframe, b_frames=b_frames)
    begin, end = sum(FRAMES[:1]), sum(FRAMES[:2])
    hole(source / OTHER, range(begin + 9, begin + 14))
    before = shown(source / VIDEO)
    report = repair(source, tmp_path / "repaired")
    assert (report.episodes, report.flags) == (3, [])
    assert [loss.what for loss in report.lost] == ["episode 1 (30 rows)"]
    assert np.array_equal(shown(tmp_path / "repaired" / VIDEO), before[:begin] + before[end:])
    assert_lerobot_reads(tmp_path / "repaired", 3)


def test_a_sound_dataset_with_trimmed_video_is_sound(recording, tmp_path):
    """Nothing is left over, nothing is missing, nothing is written."""
    source = shutil.copytree(recording.whole, tmp_path / "trimmed")
    assert find_sound(source) is not None
    trim(source / VIDEO, 7, keyframe=False, b_frames=2)
    assert find_sound(source) is not None


def test_rows_without_their_metadata_find_their_pictures(recording, tmp_path):
    """Where pictures are counted: a killed recorder's last file lies behind the hidden ones, too."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    trim(source / VIDEO, 7, keyframe=True, b_frames=0)
    before = shown(source / VIDEO)
    report = repair(source, tmp_path / "repaired")
    assert (report.episodes, report.flags) == (3, [])
    assert np.array_equal(shown(tmp_path / "repaired" / VIDEO), before)
