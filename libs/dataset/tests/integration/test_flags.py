"""Episodes of which a camera dropped frames, as LeRobot leaves them."""

import shutil

import pyarrow.parquet as pq
import pytest
from teleop_dataset.errors import BrokenFile
from teleop_dataset.flags import EpisodeFlag, flag_episodes

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture
def dataset(recording, tmp_path):
    return shutil.copytree(recording.whole, tmp_path / "picking")


def test_sound_dataset_has_no_flags(dataset):
    """As many frames as rows, of each camera."""
    assert flag_episodes(dataset) == []


def test_dropped_frames_are_told_by_episode_and_camera(dataset):
    """The episode's row says how long its video is."""
    table = pq.read_table(dataset / EPISODES)
    name = f"videos/{WRIST}/to_timestamp"
    times = table.column(name).to_pylist()
    times[1] -= 2 / 30
    table = table.set_column(table.column_names.index(name), name, [times])
    pq.write_table(table, dataset / EPISODES)
    assert flag_episodes(dataset) == [EpisodeFlag(1, WRIST, 28, 30)]
    assert str(flag_episodes(dataset)[0]) == f"episode 1: {WRIST} has 28 frames for 30 rows"


def test_video_that_ends_too_early_is_told(recording, dataset):
    """What counts is what the file has."""
    video = f"videos/{FRONT}/chunk-000/file-000.mp4"
    shutil.copy(recording.state(2, "done") / video, dataset / video)
    assert flag_episodes(dataset) == [EpisodeFlag(3, FRONT, 0, 24)]
    (dataset / video).unlink()
    assert [flag.frames for flag in flag_episodes(dataset)] == [0, 0, 0, 0]


def test_torn_dataset_has_flags_of_what_is_readable(recording):
    """Rows that are still in the recorder's memory can't be judged."""
    assert flag_episodes(recording.state(3, "halfway")) == []


def test_torn_info_is_refused(dataset):
    """Without the frame rate nothing can be said."""
    (dataset / "meta/info.json").write_text("{")
    with pytest.raises(BrokenFile, match=r"info\.json"):
        flag_episodes(dataset)
