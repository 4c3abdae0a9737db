"""A dataset with video that LeRobot recorded, written once more from its own rows."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from teleop_dataset.v3 import layout
from teleop_dataset.v3.episodes import STATISTICS, Clip
from teleop_dataset.v3.info import IMAGES, VideoFeature, recorded_features
from teleop_dataset.v3.layout import LEROBOTS_LIMITS, FileNumber
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.stats import QUANTILES, Stats, join
from teleop_dataset.v3.writer import DatasetWriter
from teleop_dataset.verify import verify
from teleop_dataset.verify_written import verify_written

EPISODES = FileNumber(0, 0).episodes_path()
DATA = FileNumber(0, 0).data_path()


def read(root):
    return json.loads((root / layout.INFO).read_text()), pq.read_table(root / EPISODES).to_pylist()


def clip_of(episode, key):
    place = FileNumber(episode[f"videos/{key}/chunk_index"], episode[f"videos/{key}/file_index"])
    return Clip(place, episode[f"videos/{key}/from_timestamp"], episode[f"videos/{key}/to_timestamp"])


def stats_of(told):
    """Statistics of one stretch, from a row of episodes or from stats.json."""
    each = {name: np.array(told[name]).reshape(1, -1) for name in STATISTICS}
    quantiles = np.stack([each[name] for name in QUANTILES], axis=1)
    return Stats(each["count"][:, 0], each["min"], each["max"], each["mean"], each["std"], quantiles)


@pytest.fixture(scope="module")
def rewritten(recording, tmp_path_factory):
    """Its rows, clips and statistics of pictures are LeRobot's; all else is the writer's own."""
    root = tmp_path_factory.mktemp("rewritten")
    info, rows = read(recording.whole)
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    clips = {key: [clip_of(row, key) for row in rows] for key in cameras}
    pictures = {
        key: join([stats_of({name: row[f"stats/{key}/{name}"] for name in STATISTICS}) for row in rows])
        for key in cameras
    }
    document = json.loads((recording.whole / layout.STATS).read_text())
    frames = pq.read_table(recording.whole / DATA)
    frames = frames.rename_columns([{"observation.state": "state"}.get(n, n) for n in frames.column_names])
    lengths = [row["length"] for row in rows]
    tasks = [[TaskRows(row["tasks"][0], row["length"])] for row in rows]
    with DatasetWriter(root, info["features"], fps=info["fps"], limits=LEROBOTS_LIMITS) as writer:
        writer.add(frames, lengths, tasks, clips, pictures)
        writer.close_data()
        writer.finish(
            writer.recorded.finish(root, lambda done, total: None),
            {key: stats_of(document[key]) for key in cameras},
            robot_type=info["robot_type"],
            provenance={},
            splits={"train": (0, len(rows))},
        )
    shutil.copytree(recording.whole / "videos", root / "videos")
    return root


def test_it_is_the_dataset_that_lerobot_recorded(recording, rewritten):
    """The same rows, the same places of the same clips, the same statistics of pictures."""
    (info, rows), (own, own_rows) = read(rewritten), read(recording.whole)
    assert info == own
    assert pq.read_table(rewritten / DATA).to_pylist() == pq.read_table(recording.whole / DATA).to_pylist()
    for row, own_row in zip(rows, own_rows, strict=True):
        assert row.keys() == own_row.keys()
        assert {key: row[key] for key in row if not key.startswith("stats/")} == {
            key: own_row[key] for key in row if not key.startswith("stats/")
        }
        for key in row:
            if key.startswith(f"stats/{IMAGES}"):
                assert row[key] == own_row[key], key
    stats, own_stats = (
        json.loads((root / layout.STATS).read_text()) for root in (rewritten, recording.whole)
    )
    assert stats.keys() == own_stats.keys()
    for key in stats:
        if key.startswith(IMAGES):
            assert stats[key] == own_stats[key]


def test_it_is_sound(rewritten):
    """Its videos are where its rows look for them."""
    verify(rewritten, frames=pq.read_metadata(rewritten / DATA).num_rows, advance=lambda done, total: None)
    verify_written(rewritten)


def test_a_camera_is_described_as_lerobot_does(recording):
    """But for the settings of the encoder, which nobody knows of a recording, and which merging ignores."""
    features = read(recording.whole)[0]["features"]
    for key, own in features.items():
        if own["dtype"] != "video":
            continue
        height, width, _ = own["shape"]
        about = own["info"]
        camera = VideoFeature(
            key.removeprefix(IMAGES), height, width, about["video.codec"], about["video.pix_fmt"]
        )
        ours = recorded_features(["x"], [], [camera], fps=about["video.fps"], capture_time=True)
        assert list(ours)[1:4] == [key, "capture.time_ns", "capture.picture_age_ms"]
        assert {name: ours[key][name] for name in ("dtype", "shape", "names")} == {
            name: own[name] for name in ("dtype", "shape", "names")
        }
        assert ours[key]["info"].items() <= about.items()
