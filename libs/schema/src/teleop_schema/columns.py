"""Columns of a session beyond state and action, and how one frame's values of them are packed.

A command may record more than joints: `next.reward`, `intervention`, any feature of a LeRobot dataset with
numbers or texts. Each such column is declared once in the stream, and from then on identified by its
position. A frame's values are one string of bytes, so that doubles and 64-bit integers stay exact:

    0  u8  size of the bitmap in bytes, n
    1  n   bitmap: bit p % 8 of byte p // 8 says that the frame has a value of the column at position p
    …      these values, but for texts, in the order of the positions: C order, little-endian, a truth value
           is one byte
    …      its texts, in the order of the positions: u16 size in bytes, little-endian, then UTF-8
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from teleop_schema.errors import BadMessage
from teleop_schema.session import FeatureName

# LeRobot's own commands add about ten.
MAX_COLUMNS = 256
# For all values of one frame: the space of a spool's record besides vectors and extra.
MAX_COLUMN_BYTES = 7 * 1024
MAX_PACKED_BYTES = MAX_COLUMN_BYTES + 1 + 255
# More than any sensor needs: time, channel, height, width, depth.
MAX_DIMENSIONS = 5

Length = Annotated[int, Meta(ge=1, le=MAX_COLUMN_BYTES)]
Dtype = Literal[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "string",
]
TEXT = "string"
TEXT_SIZE = struct.Struct("<H")
# Estimated size of a text, which may have up to MAX_COLUMN_BYTES.
TEXT_BYTES = 1024
VALUE_BYTES: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}


NO_TEXTS: Mapping[int, bytes] = {}


class Column(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One column of a session.

    position  counted from 0, in the order in which the columns appeared
    name      of the dataset's feature, "next.reward"
    shape     of one frame's value; [1] for a single number
    names     names of its values in LeRobot's feature, if any
    """

    position: Annotated[int, Meta(ge=0, lt=MAX_COLUMNS)]
    name: FeatureName
    dtype: Dtype
    shape: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=MAX_COLUMN_BYTES)], ...], Meta(max_length=MAX_DIMENSIONS)
    ]
    names: list[str] | dict[str, list[str]] | None = None

    def __post_init__(self) -> None:
        if self.size_bytes > MAX_COLUMN_BYTES:
            raise ValueError(f"a value of {self.name} has {self.size_bytes} bytes: field `shape`")
        if self.is_text and self.shape != (1,):
            raise ValueError(f"{self.name} is text, so its shape must be [1]: field `shape`")

    @property
    def is_text(self) -> bool:
        """Whether its values are texts, which differ in size."""
        return self.dtype == TEXT

    @property
    def values(self) -> int:
        """Numbers in one frame's value."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of one frame's value in the part of fixed size."""
        return 0 if self.is_text else VALUE_BYTES[self.dtype] * self.values

    @property
    def room_bytes(self) -> int:
        """Estimated bytes of one frame's value, to check that memory or a disk is enough."""
        return TEXT_BYTES if self.is_text else self.size_bytes


def pack_values(values: Mapping[int, bytes], texts: Mapping[int, bytes] = NO_TEXTS) -> bytes:
    """A frame's values as one string of bytes; position -> value's bytes, or text in UTF-8, at least one."""
    head = head_of(sorted((*values, *texts)))
    return head + b"".join(values[each] for each in sorted(values)) + pack_texts(texts)


def pack_texts(texts: Mapping[int, bytes]) -> bytes:
    """A frame's texts, position -> UTF-8, in the form that follows its other values."""
    return b"".join(TEXT_SIZE.pack(len(texts[each])) + texts[each] for each in sorted(texts))


def unpack_texts(packed: bytes) -> Iterator[bytes]:
    """The texts after a frame's other values; raises struct.error if they end too early."""
    at = 0
    while at < len(packed):
        (size,) = TEXT_SIZE.unpack_from(packed, at)
        at += TEXT_SIZE.size + size
        if at > len(packed):
            raise struct.error(f"a text runs {at - len(packed)} bytes past the end")
        yield packed[at - size : at]


def head_of(positions: Sequence[int]) -> bytes:
    """The bytes before the values of columns at these positions (ascending, at least one) in a packed
    frame."""
    bitmap = sum(1 << position for position in positions)
    size = positions[-1] // 8 + 1
    return bytes((size,)) + bitmap.to_bytes(size, "little")


def positions_in(packed: bytes) -> list[int]:
    """Positions of the columns that a packed frame has values of; raises IndexError if it ends too early."""
    size = packed[0]
    bitmap = int.from_bytes(packed[1 : 1 + size], "little")
    return [position for position in range(8 * size) if bitmap >> position & 1]


def unknown_columns(packed: bytes, known: Mapping[int, Column], field: str) -> list[int]:
    """Positions in a packed frame whose columns are not known; nothing in it can be read then.

    known   position -> column
    raises  BadMessage, naming `field`, if these are not packed values
    """
    if not packed or len(packed) <= packed[0] or len(packed) > MAX_PACKED_BYTES:
        raise BadMessage(f"{field} holds {len(packed)} bytes", field=field, limit=MAX_PACKED_BYTES)
    positions = positions_in(packed)
    unknown = [position for position in positions if position not in known]
    if unknown:
        return unknown
    needed = 1 + packed[0] + sum(known[position].size_bytes for position in positions)
    texts = sum(known[position].is_text for position in positions)
    if len(packed) < needed or (len(packed) > needed and not texts):
        raise BadMessage(f"{field} holds {len(packed)} bytes, its columns need {needed}", field=field)
    _check_texts(packed[needed:], texts, field)
    return []


def _check_texts(packed: bytes, count: int, field: str) -> None:
    try:
        found = [text.decode() for text in unpack_texts(packed)]
    except (struct.error, UnicodeDecodeError) as error:
        raise BadMessage(f"{field} holds a text that can't be read: {error}", field=field) from error
    if len(found) != count:
        raise BadMessage(f"{field} holds {len(found)} texts, its columns need {count}", field=field)


def check_told(column: Column, known: Mapping[int, Column], field: str) -> None:
    """Raise BadMessage, naming `field`, if a declared column contradicts what is known."""
    before = known.get(column.position)
    if before is not None and before != column:
        raise BadMessage(f"{field}: column {column.position} is {before.name!r} already", field=field)
    if any(other.name == column.name and other != column for other in known.values()):
        raise BadMessage(f"{field}: {column.name!r} is a column already", field=field)
