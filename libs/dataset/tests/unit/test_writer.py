"""What the writer refuses, counts and holds back."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.v3 import writer as writing
from teleop_dataset.v3.info import recorded_features
from teleop_dataset.v3.layout import LEROBOTS_LIMITS
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.writer import DatasetWriter, NonFiniteValue
from teleop_dataset.verify import verify
from teleop_dataset.verify_written import verify_written

FEATURES = recorded_features(["x", "y"], ["x", "y"], fps=30, capture_time=False)


def add(writer, values, lengths):
    """Some episodes whose state and action are `values`, (rows, 2)."""
    column = pa.FixedSizeListArray.from_arrays(values.astype(np.float32).ravel(), 2)
    tasks = [[TaskRows("pick", length)] for length in lengths]
    writer.add(pa.table({"state": column, "action": column}), lengths, tasks, {}, {})


def finish(writer):
    writer.close_data()
    recorded = writer.recorded.finish(writer.root, lambda done, total: None)
    splits = {"train": (0, writer.episodes)}
    writer.finish(recorded, {}, robot_type="arm", provenance={}, splits=splits)


@pytest.mark.parametrize(("row", "episode"), [(0, 0), (3, 0), (4, 1), (5, 2), (8, 2)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(tmp_path, value, row, episode):
    """The error names the feature, and which of the episodes that were added it is in."""
    values = np.zeros((9, 2))
    values[row, 1] = value
    with DatasetWriter(tmp_path, FEATURES, fps=30, limits=LEROBOTS_LIMITS) as writer:
        add(writer, np.zeros((2, 2)), [2])
        with pytest.raises(NonFiniteValue, match=r"action|observation\.state") as refusal:
            add(writer, values, [4, 1, 4])
    assert refusal.value.episode == episode


def test_values_that_need_not_be_finite_are_counted(tmp_path):
    """By rows, whatever they have of them; the dataset is sound, and says which features have such values."""
    values = np.zeros((6, 2))
    values[1], values[4, 0] = np.nan, np.inf
    with DatasetWriter(tmp_path, FEATURES, fps=30, limits=LEROBOTS_LIMITS, finite=()) as writer:
        add(writer, values, [3, 3])
        finish(writer)
    assert writer.not_finite == {"action": 2, "observation.state": 2}
    verify(tmp_path, frames=6, advance=lambda done, total: None)
    verify_written(tmp_path)


def test_rows_of_episodes_are_written_many_at_a_time(tmp_path, monkeypatch):
    """Each has a hundred columns of statistics: alone, they would be slow to read."""
    monkeypatch.setattr(writing, "EPISODES_PER_ROW_GROUP", 3)
    with DatasetWriter(tmp_path, FEATURES, fps=30, limits=LEROBOTS_LIMITS) as writer:
        for _ in range(4):
            add(writer, np.zeros((4, 2)), [3, 1])
        finish(writer)
    (path,) = tmp_path.glob("meta/episodes/*/*.parquet")
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [4, 4]
    verify(tmp_path, frames=16, advance=lambda done, total: None)
    verify_written(tmp_path)
