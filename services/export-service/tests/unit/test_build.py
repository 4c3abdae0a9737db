"""A dataset built from frames in memory: which rows it gets, and what ends its making."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs
from teleop_dataset.v3.layout import ONE_FILE
from teleop_dataset.verify import verify
from teleop_export.errors import Cancelled, NotFinite, RecordingChanged
from teleop_export.making import build as building
from teleop_export.planning.order import make_order
from teleop_export.planning.request import ExportRequest
from teleop_export.sessions.recorded import EpisodeRow, Session

NAMES = ("a.pos", "b.pos")
FRAMES = 300
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


class Memory:
    """Recorded frames, read from a table."""

    def __init__(self, frames=FRAMES, names=NAMES):
        values = np.random.default_rng(0).normal(size=(2, frames, len(names))).astype(np.float32)
        captured = np.arange(frames) * 16_667 + 1_763_860_000_000_000
        self.table = pa.table(
            {
                "frame_index": np.arange(frames),
                "timestamp": pa.array(captured, pa.timestamp("us", tz="UTC")),
                "state": pa.FixedSizeListArray.from_arrays(values[0].ravel(), len(names)),
                "action": pa.FixedSizeListArray.from_arrays(values[1].ravel(), len(names)),
                "extra": pa.nulls(frames, pa.string()),
                "observation_age_us": pa.nulls(frames, pa.int64()),
            }
        )

    def read(self, session_id, first, end, *, state_width, action_width):
        index = self.table.column("frame_index").to_numpy()
        return self.table.filter(pa.array((index >= first) & (index < end)))


def order(*episodes, frames=FRAMES, names=NAMES):
    session = Session(
        id=1,
        robot_id="robot_A",
        robot_type="so101",
        fps=60.0,
        task="pick",
        state_names=names,
        action_names=names,
        status="complete",
        watermark=frames,
        committed=frames,
        episodes=tuple(EpisodeRow(number, *each) for number, each in enumerate(episodes)),
    )
    return make_order(ExportRequest(session_ids=(1,), repo_id="lab/pick"), [session])


NAME = "5" * 64


def build(folder, made, reader, watch):
    """A dataset without video."""
    return building.build(folder, made, NAME, reader, None, None, None, watch)


def ignore(*_progress):
    """A watch that never stops the work."""


def test_rows_have_the_tasks_of_their_frames(tmp_path):
    """As LeRobot has it: a task for each row, in the order of the tasks' appearance; an episode names each of
    its tasks once. One whose frames are all left out by a lower rate is none."""
    made = order(
        (0, 100, "fold", None, ((40, "pick"), (60, "fold"), (61, "gone"), (62, "open"))), (100, 300, "pick")
    )
    made = structs.replace(made, fps=30)
    built = build(tmp_path, made, Memory(), ignore)
    rows = pd.read_parquet(tmp_path / DATA)
    tasks = pd.read_parquet(tmp_path / "meta/tasks.parquet")
    assert list(tasks.index) == ["fold", "pick", "open"]
    assert built.content.tasks == json.loads((tmp_path / "meta/info.json").read_text())["total_tasks"] == 3
    assert rows.task_index.tolist() == [0] * 20 + [1] * 10 + [0] + [2] * 19 + [1] * 100
    episodes = pq.read_table(tmp_path / EPISODES).to_pylist()
    assert [each["tasks"] for each in episodes] == [["fold", "pick", "open"], ["pick"]]
    assert [each["stats/task_index/mean"] for each in episodes] == [[pytest.approx(48 / 50)], [1]]
    verify(tmp_path, frames=150, advance=ignore)


def test_vanished_frames_stop_the_export(tmp_path):
    """Fewer rows than planned are never padded."""
    with pytest.raises(RecordingChanged, match="only 299 of"):
        build(tmp_path, order(), Memory(FRAMES - 1), ignore)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_no_number_stops_the_export(tmp_path, value):
    """The error names feature and frames."""
    memory = Memory()
    values = memory.table.column("state").combine_chunks().flatten().to_numpy().copy()
    values[250 * len(NAMES)] = value
    memory.table = memory.table.set_column(2, "state", pa.FixedSizeListArray.from_arrays(values, len(NAMES)))
    with pytest.raises(NotFinite, match=r"observation.state .* frames 200 to 299"):
        build(tmp_path, order((0, 200), (200, 300)), memory, ignore)


def test_watch_stops_the_work(tmp_path):
    """Whatever it raises ends the export."""

    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        build(tmp_path, order(), Memory(), stop)


def test_splits_are_ranges_of_episodes(tmp_path):
    """In info.json, and the dataset is verified with them."""
    made = structs.replace(
        order((0, 100), (100, 101), (101, 300)), splits=(("train", 0, 2), ("val", 2, 3)), streaming_safe=True
    )
    build(tmp_path, made, Memory(), ignore)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["splits"] == {"train": "0:2", "val": "2:3"}
    assert info["data_files_size_in_mb"] == ONE_FILE.data_mb


def test_capture_time_is_kept(tmp_path):
    """Nanoseconds since 1970, while `timestamp` is on the grid."""
    build(tmp_path, order((0, 100), (120, 121), (121, 300)), Memory(), ignore)
    table = pq.read_table(tmp_path / DATA)
    assert table.column("capture.time_ns")[100].as_py() == (1_763_860_000_000_000 + 120 * 16_667) * 1000
    assert table.column("timestamp")[99].as_py() == np.float32(99 / 60)
