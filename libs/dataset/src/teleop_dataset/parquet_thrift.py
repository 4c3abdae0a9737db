"""The Thrift structures of Parquet files, read and written without pyarrow.

This is light enough for a robot PC that only looks at datasets, and the only way to read a file without a
footer.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import thriftpy2
from teleop_schema.words import counted
from thriftpy2.protocol.compact import TCompactProtocol
from thriftpy2.thrift import TException, TType

from teleop_dataset.errors import BrokenFile

MAGIC = b"PAR1"
# Of a data file with 10,000 row groups of 15 columns.
MAX_FOOTER_BYTES = 64 * 1024**2
# Those of such a footer are half as many; each takes 10 us, and up to 200 bytes of memory.
MAX_ELEMENTS = 2_000_000
# Of lists whose elements are structures (row groups, columns), which take most of it.
MAX_STRUCTURES = 500_000
# What LeRobot writes has less than one: the number of each row is another. The tightest encodings make it 10.
# Equal values take no bytes at all, so a file of some kB can list rows that fill any memory.
MAX_ROWS_PER_BYTE = 100
# Lists and texts expand within a row: half a kB can be a list of a billion equal numbers (50 million took
# 0.6 GB), and 16 kB a text of half a GB. A row group is read as a whole; LeRobot's take some MB.
MAX_GROUP_BYTES = 1024**3
VALUE_BYTES = 8
# Footer length (uint32, little endian), then the magic.
_END = struct.Struct("<I4s")

parquet: Any = thriftpy2.load(
    str(Path(__file__).with_name("parquet.thrift")), module_name="teleop_dataset_parquet_thrift"
)


class _Bytes:
    """The transport of thriftpy2; knows how far it has read, and reports the end of the data."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self.position = 0
        self.written = bytearray()

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self.position

    def read(self, length: int) -> bytes:
        if length > self.left:
            raise EOFError
        self.position += length
        return self._data[self.position - length : self.position]

    def write(self, data: bytes) -> None:
        self.written += data


_Compact: Any = TCompactProtocol


class _Bounded(_Compact):  # type: ignore[misc]
    """Refuses collections that say they have more elements than there are bytes: 17 bytes named two billion,
    whose kind takes no byte, and were read for hours. And more elements in all than a footer has, of which a
    robot PC would make gigabytes of objects."""

    trans: _Bytes
    elements = structures = 0

    def _read_collection_begin(self) -> tuple[int, int]:
        kind, size = super()._read_collection_begin()
        self._check(size, kind)
        return kind, size

    def _read_map_begin(self) -> tuple[int, int, int]:
        key, value, size = super()._read_map_begin()
        self._check(size, key, value)
        return key, value, size

    def _check(self, size: int, *kinds: int) -> None:
        self.elements += size
        self.structures += size * (TType.STRUCT in kinds)
        if size > self.trans.left or (size and TType.STOP in kinds):
            raise EOFError
        if self.elements > MAX_ELEMENTS or self.structures > MAX_STRUCTURES:
            raise BrokenFile(f"it has more than {MAX_ELEMENTS} elements", limit=MAX_ELEMENTS)


_Protocol: Any = _Bounded


def decode(kind: type, data: bytes) -> tuple[Any, int]:
    """The structure of this kind at the beginning of `data`, and its bytes.

    Text is returned as bytes. Raises BrokenFile if it is cut off, damaged, or another structure.
    """
    buffer = _Bytes(data)
    found = kind()
    try:
        _Protocol(buffer, decode_response=False).read_struct(found)
    except (EOFError, TException, struct.error, TypeError, KeyError, ValueError, RecursionError) as error:
        raise BrokenFile(f"no {kind.__name__} here") from error
    _require_fields(found)
    return found, buffer.position


def _require_fields(value: Any) -> None:
    """Check required fields, because thriftpy2 accepts a structure without them."""
    if isinstance(value, list):
        for each in value:
            _require_fields(each)
    elif hasattr(value, "thrift_spec"):
        for _, name, *_, required in value.thrift_spec.values():
            if required and getattr(value, name) is None:
                raise BrokenFile(f"a {type(value).__name__} without {name}")
            _require_fields(getattr(value, name))


def encode(value: Any) -> bytes:
    """The structure as bytes of a file."""
    buffer = _Bytes()
    _Protocol(buffer).write_struct(value)
    return bytes(buffer.written)


def read_footer(file: BinaryIO, size_bytes: int) -> Any:
    """The FileMetaData at the end of a Parquet file; None if it has none (yet).

    Raises BrokenFile if there is a footer that can't be read.
    """
    if size_bytes < len(MAGIC) + _END.size:
        return None
    file.seek(size_bytes - _END.size)
    length, magic = _END.unpack(file.read(_END.size))
    if magic != MAGIC:
        return None
    begin = size_bytes - _END.size - length
    if begin < len(MAGIC) or length > MAX_FOOTER_BYTES:
        raise BrokenFile(f"the footer would have {length} bytes", limit=MAX_FOOTER_BYTES)
    file.seek(begin)
    found, used = decode(parquet.FileMetaData, file.read(length))
    if used != length:
        raise BrokenFile(f"the footer has {used} bytes instead of {length}")
    rows = sum(group.num_rows for group in found.row_groups)
    for group in found.row_groups:
        check_group(group, size_bytes, rows)
    return found


def check_group(group: Any, size_bytes: int, rows: int) -> None:
    """Raise BrokenFile if a file of that size can't hold what a row group says it has.

    rows  of all row groups that are known
    """
    most = MAX_ROWS_PER_BYTE * size_bytes
    if group.num_rows < 0 or rows > most:
        raise BrokenFile(f"{size_bytes} bytes would be {counted(rows, 'row')}", limit=most)
    told = [column.meta_data for column in group.columns if column.meta_data is not None]
    sizes = [max(VALUE_BYTES * each.num_values, each.total_uncompressed_size) for each in told]
    if min(sizes, default=0) < 0 or sum(sizes) > MAX_GROUP_BYTES + most:
        raise BrokenFile(
            f"{size_bytes} bytes would be {sum(sizes)} bytes of one row group", limit=MAX_GROUP_BYTES + most
        )


def write_footer(metadata: Any) -> bytes:
    """The end of a Parquet file: `metadata` (FileMetaData), its length, the magic."""
    encoded = encode(metadata)
    return encoded + _END.pack(len(encoded), MAGIC)
