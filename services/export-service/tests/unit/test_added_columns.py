"""Which columns that a command added a dataset has."""

import numpy as np
import pyarrow as pa
import pytest
from teleop_export.errors import RecordingChanged
from teleop_export.planning import pieces
from teleop_export.planning.added_columns import choose_columns, with_columns
from teleop_export.planning.pieces import Piece, frames_at_once
from teleop_export.sessions.recorded import Session, Values
from teleop_schema.columns import MAX_COLUMN_BYTES, Column, pack_values

FRAMES = 10
REWARD = Column(0, "reward", "float32", (1,))


def session(number: int, *columns: Column) -> Session:
    """One of which every frame has a value of every column."""
    width = max(column.position for column in columns) // 8 + 1
    present = np.zeros((FRAMES, 8 * width), bool)
    present[:, [column.position for column in columns]] = True
    bits = np.packbits(present, axis=1, bitorder="little")
    return Session(
        id=number,
        robot_id="robot_A",
        robot_type="so101",
        fps=60.0,
        task=None,
        state_names=("a",),
        action_names=("a",),
        status="complete",
        watermark=FRAMES,
        committed=FRAMES,
        columns=columns,
        values=Values(np.arange(FRAMES), np.ones(FRAMES, bool), bits),
    )


def chosen(*sessions: Session):
    return choose_columns(sessions, [Piece(each.id, 0, FRAMES, "pick", None) for each in sessions])


def test_columns_that_lie_elsewhere_are_the_same():
    """Only their place in the frames differs: beyond the first byte of the bitmap, too."""
    moved = Column(11, "reward", "float32", (1,))
    found = chosen(session(1, REWARD), session(2, moved))
    assert (found.columns, found.left_out) == ((REWARD,), {1: (), 2: ()})


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Column(0, "reward", "float64", (1,)), "float32 [1] in session 1, float64 [1] in session 2"),
        (Column(0, "reward", "float32", (2,)), "float32 [1] in session 1, float32 [2] in session 2"),
        (
            Column(0, "reward", "float32", (1,), ["sum"]),
            "float32 [1] in session 1, float32 [1] of ['sum'] in session 2",
        ),
    ],
    ids=["dtype", "shape", "names"],
)
def test_columns_of_two_kinds_are_left_out(other, told):
    """No value is converted, and none is put under another one's name."""
    found = chosen(session(1, REWARD), session(2, other))
    assert found.columns == ()
    for number in (1, 2):
        (left_out,) = found.left_out[number]
        assert (left_out.name, left_out.reason) == ("reward", f"it is {told}")
        assert left_out.hint == "export them as two datasets"


@pytest.mark.parametrize(
    "name", ["capture.time_ns", "index", "task", "language_events", "observation.image_quality", "a/b"]
)
def test_names_that_lerobot_has_no_room_for_are_left_out(name):
    """A name that would break the dataset, or its merging, does not cost the export."""
    found = chosen(session(1, REWARD, Column(1, name, "float32", (1,))))
    assert found.columns == (REWARD,)
    (left_out,) = found.left_out[1]
    assert left_out.name == name
    assert "record it under another name" in left_out.hint


def test_sessions_without_rows_do_not_count():
    """One whose episodes are all left out has no say."""
    sessions = [session(1, REWARD), session(2, Column(0, "other", "bool", (1,)))]
    found = choose_columns(sessions, [Piece(1, 0, FRAMES, "pick", None)])
    assert (found.columns, found.left_out) == ((REWARD,), {1: ()})


def test_wide_columns_are_read_in_smaller_parts():
    """So that a fetch of frames holds no more memory than one without them."""
    assert frames_at_once(0) == frames_at_once(100) == 65_536
    assert frames_at_once(MAX_COLUMN_BYTES) * MAX_COLUMN_BYTES <= 32 * 1024**2


def frames_with(*rewards: float | None) -> pa.Table:
    """Frames with these rewards, packed as the table has them."""
    packed = [None if each is None else pack_values({0: np.float32(each).tobytes()}) for each in rewards]
    return pa.table({"columns": pa.array(packed, pa.binary())})


def test_values_of_a_long_episode_are_unpacked_in_parts(monkeypatch):
    """And are all there, in their order."""
    monkeypatch.setattr(pieces, "READ_COLUMN_BYTES", 12)
    table = with_columns(frames_with(*range(10)), [REWARD], [REWARD])
    assert table.column("reward").num_chunks == 4
    assert table.column("reward").to_pylist() == list(range(10))


def test_a_value_that_has_gone_is_noticed():
    """The plan said that every frame has one."""
    with pytest.raises(RecordingChanged, match="column reward has lost its value in 1 frame"):
        with_columns(frames_with(1.0, None), [REWARD], [REWARD])


def test_only_rows_must_have_a_value():
    """Frames between the pieces and within their pauses may lack one."""
    lacking = [0, 4, 9]
    pieces = [
        Piece(1, 1, 4, "pick", 0),
        Piece(1, 4, 9, "pick", 1, pauses=((4, 5),)),
        Piece(2, 0, 10, "pick", 0),
    ]
    recorded = session(1, REWARD)
    recorded.values.bits[lacking] = 0
    assert choose_columns([recorded, session(2, REWARD)], pieces).columns == (REWARD,)
    recorded.values.bits[8] = 0
    told = choose_columns([recorded, session(2, REWARD)], pieces).left_out[1][0]
    assert told.reason == "session 1 has no value for it in 1 frame, the first is 8"
