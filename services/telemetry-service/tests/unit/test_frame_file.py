"""Frames as a Parquet file, and back."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_runtime.postgres.frames import frame_schema
from teleop_schema.columns import Column, pack_values
from teleop_telemetry.archive.frame_file import (
    SCHEMA,
    ArchivedFrames,
    bits_of,
    file_schema,
    from_file,
    read_in_blocks,
    to_file,
)

COLUMNS = [
    Column(0, "flag", "bool", (1,)),
    Column(1, "pose", "float64", (2, 2), ["a", "b"]),
    Column(2, "said", "string", (1,)),
]
POSE = np.array([0.1, np.nan, np.inf, -0.0])


@pytest.fixture
def frames() -> pa.Table:
    """Three frames as the database gives them: with all values, with none, with some."""
    rows = {
        "frame_index": [4, 5, 7],
        "timestamp": [1, 2, 3],
        "state": [[1.0, np.nan]] * 3,
        "action": [[]] * 3,
        "extra": ['{"a": 1}', None, None],
        "observation_age_us": [None, 5, None],
        "columns": [
            pack_values({0: b"\x01", 1: POSE.tobytes()}, {2: "놓아".encode()}),
            None,
            pack_values({1: POSE.tobytes()}),
        ],
    }
    return pa.table(rows, frame_schema(2, 0))


def test_every_column_has_its_own_type_there_and_comes_back(frames, tmp_path):
    """Bit by bit, by row group and by frame index."""
    path = tmp_path / "frames.parquet"
    with pq.ParquetWriter(path, file_schema(COLUMNS)) as writer:
        writer.write_table(to_file(frames, COLUMNS))
    table = pq.read_table(path)
    assert table["columns.flag"].to_pylist() == [True, None, None]
    assert table["columns.pose"].type.value_type == pa.float64()
    assert str(table["columns.pose"].to_pylist()) == str([POSE.tolist(), None, POSE.tolist()])
    assert table["columns.said"].to_pylist() == ["놓아", None, None]
    (back,) = read_in_blocks(path)
    assert bits_of(back).equals(bits_of(frames.cast(SCHEMA)))
    some = ArchivedFrames(path).read(1, 5, 8, state_width=2, action_width=0)
    assert some["columns"].to_pylist() == frames["columns"].to_pylist()[1:]


def test_files_of_older_versions_are_read(frames, tmp_path):
    """Those with the values packed, and those of a time when frames had none."""
    packed = frames.cast(SCHEMA)
    assert bits_of(from_file(packed)).equals(bits_of(packed))
    oldest = from_file(packed.drop_columns(["columns", "observation_age_us"]))
    assert oldest.schema == SCHEMA
    assert oldest["columns"].null_count == 3
