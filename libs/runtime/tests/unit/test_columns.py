"""Columns as the table keeps them, as Arrow."""

import numpy as np
import pyarrow as pa
from teleop_runtime.postgres.columns import pack, unpack
from teleop_schema.columns import Column, pack_values

COLUMNS = [
    Column(0, "flag", "bool", (1,)),
    Column(1, "count", "int64", (1,)),
    Column(2, "pose", "float64", (3,)),
    Column(5, "touch", "uint8", (2, 2)),
    Column(17, "half", "float16", (1,)),
]


def test_every_bit_comes_back():
    """Doubles and 64-bit integers are exact, NaN is itself, and a value that a frame lacks is null."""
    rows = [
        {0: b"\x01", 1: np.int64(2**63 - 1).tobytes(), 2: np.array([0.1, np.nan, np.inf]).tobytes()},
        None,
        {1: np.int64(-(2**53) - 1).tobytes(), 5: bytes((1, 2, 3, 255)), 17: np.float16(0.5).tobytes()},
        {0: b"\x00", 1: np.int64(0).tobytes(), 2: np.array([1.0, 2.0, 3.0]).tobytes()},
    ]
    packed = pa.chunked_array([pa.array([row and pack_values(row) for row in rows], pa.binary())])
    flag, count, pose, touch, half = unpack(packed, COLUMNS)
    assert flag.to_pylist() == [True, None, None, False]
    assert count.to_pylist() == [2**63 - 1, None, -(2**53) - 1, 0]
    assert str(pose.to_pylist()) == str([[0.1, np.nan, np.inf], None, None, [1.0, 2.0, 3.0]])
    assert touch.to_pylist() == [None, None, [1, 2, 3, 255], None]
    assert half.to_pylist() == [None, None, 0.5, None]
    assert pack([flag, count, pose, touch, half], COLUMNS).to_pylist() == packed.to_pylist()
    assert [array.type for array in (flag, count, pose, touch, half)] == [
        pa.bool_(),
        pa.int64(),
        pa.list_(pa.field("element", pa.float64()), 3),
        pa.list_(pa.field("element", pa.uint8()), 4),
        pa.float16(),
    ]


def test_texts_come_back():
    """Beside values of fixed size and alone, empty ones and NUL too; those of other columns stay apart."""
    columns = [
        Column(3, "instruction", "string", (1,)),
        Column(0, "count", "int16", (1,)),
        Column(12, "note", "string", (1,)),
    ]
    rows = [
        pack_values({0: b"\x01\x02"}, {3: "컵을 잡아".encode(), 12: b"a\0b"}),
        None,
        pack_values({}, {12: b""}),
        pack_values({0: b"\x03\x04"}),
        pack_values({0: b"\x05\x06"}, {3: b"put", 12: b"c" * 7000}),
    ]
    packed = pa.chunked_array([pa.array(rows, pa.binary())])
    instruction, count, note = unpack(packed, columns)
    assert instruction.to_pylist() == ["컵을 잡아", None, None, None, "put"]
    assert count.to_pylist() == [0x0201, None, None, 0x0403, 0x0605]
    assert note.to_pylist() == ["a\0b", None, "", None, "c" * 7000]
    assert pack([instruction, count, note], columns).to_pylist() == rows
    assert unpack(packed, columns, ["note"])[0].to_pylist() == note.to_pylist()
    assert [array.type for array in unpack(packed[:0], columns)] == [pa.string(), pa.int16(), pa.string()]


def test_no_frames_have_the_types_of_many():
    """An empty table has the columns, too."""
    empty = unpack(pa.chunked_array([], pa.binary()), COLUMNS)
    assert [len(array) for array in empty] == [0] * 5
    assert pack(empty, COLUMNS).to_pylist() == []
    assert empty[2].type == pa.list_(pa.field("element", pa.float64()), 3)


def test_columns_in_any_order_are_packed_by_position():
    """NaN keeps its bits, and positions beyond the first byte of the bitmap their place."""
    signalling = np.array([0x7F800001, 0x3F800000], np.uint32).view(np.float32)
    columns = [Column(9, "late", "float32", (2,)), Column(0, "early", "int16", (1,))]
    packed = pa.chunked_array([[pack_values({9: signalling.tobytes(), 0: b"\x01\x02"}), None]])
    assert pack(unpack(packed, columns), columns).to_pylist() == packed.to_pylist()
