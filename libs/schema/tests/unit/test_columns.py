"""Columns beyond state and action, and how a frame's values of them are packed."""

import pytest
from teleop_schema.columns import (
    Column,
    check_told,
    pack_values,
    positions_in,
    unknown_columns,
    unpack_texts,
)
from teleop_schema.errors import BadMessage

REWARD = Column(0, "next.reward", "float64", (1,))
FORCE = Column(1, "force", "int16", (2, 3))
LATE = Column(9, "late", "bool", (1,))
KNOWN = {column.position: column for column in (REWARD, FORCE, LATE)}


def test_values_are_packed_by_position():
    """A bitmap says which values there are; it is as long as the last of them needs."""
    assert pack_values({1: b"\x01" * 12, 0: b"\x02" * 8}) == b"\x01\x03" + b"\x02" * 8 + b"\x01" * 12
    packed = pack_values({9: b"\x01"})
    assert packed == b"\x02\x00\x02\x01"
    assert positions_in(packed) == [9]


def test_packed_values_fit_their_columns():
    """What was packed is known; a column that was never told is found, bytes that do not fit are refused."""
    whole = pack_values({0: bytes(8), 1: bytes(12), 9: b"\x01"})
    assert unknown_columns(whole, KNOWN, "columns[0]") == []
    assert unknown_columns(whole, {0: REWARD, 9: LATE}, "columns[0]") == [1]
    for wrong in (b"", b"\x01", whole[:-1], whole + b"\0", b"\xff", bytes(8000)):
        with pytest.raises(BadMessage) as caught:
            unknown_columns(wrong, KNOWN, "columns[0]")
        assert caught.value.field == "columns[0]"


def test_texts_stand_behind_the_other_values():
    """Each with its size, in the order of their positions; what is no UTF-8, or another number of texts, is
    refused."""
    known = KNOWN | {2: Column(2, "instruction", "string", (1,)), 4: Column(4, "note", "string", (1,))}
    packed = pack_values({9: b"\x01"}, {4: b"", 2: "집어".encode()})
    assert packed == b"\x02\x14\x02" + b"\x01" + b"\x06\0" + "집어".encode() + b"\0\0"
    assert [text.decode() for text in unpack_texts(packed[4:])] == ["집어", ""]
    assert unknown_columns(packed, known, "columns[0]") == []
    alone = pack_values({}, {2: b"pick"})
    assert unknown_columns(alone, known, "columns[0]") == []
    broken = pack_values({}, {2: b"\xff"})
    for wrong in (packed[:-1], packed[:-2], packed + b"\0\0", packed[:3], alone[:-1], broken):
        with pytest.raises(BadMessage) as caught:
            unknown_columns(wrong, known, "columns[0]")
        assert caught.value.field == "columns[0]"
    with pytest.raises(ValueError, match="its shape must be"):
        Column(0, "words", "string", (2,))


def test_a_column_is_what_it_was_told_to_be():
    """Telling it again changes nothing; another one at its place, or of its name, is refused."""
    check_told(FORCE, KNOWN, "events[0].column")
    check_told(Column(2, "other", "int8", (1,)), KNOWN, "events[0].column")
    for other in (Column(1, "force", "int16", (6,)), Column(2, "force", "int16", (2, 3))):
        with pytest.raises(BadMessage) as caught:
            check_told(other, KNOWN, "events[0].column")
        assert caught.value.field == "events[0].column"


def test_a_value_has_a_limit():
    """A column whose value no record has room for is none."""
    with pytest.raises(ValueError, match="8000 bytes"):
        Column(0, "picture", "float64", (1000,))
