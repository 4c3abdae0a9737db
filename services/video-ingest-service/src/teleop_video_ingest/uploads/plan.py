"""Which bytes of a file the server lacks, judged by its content-defined chunks and those of a base."""

import struct
from collections.abc import Iterable, Sequence

from teleop_schema.errors import BadInput
from teleop_schema.files import CHUNK_HASH_BYTES, CHUNK_RECORD_BYTES

_RECORD = struct.Struct(f"<I{CHUNK_HASH_BYTES}s")


def check_chunks(chunks: bytes, size_bytes: int) -> None:
    """Raise BadInput unless the chunk records are whole and make up a file of `size_bytes`."""
    if len(chunks) % CHUNK_RECORD_BYTES:
        raise BadInput(f"chunk records must have {CHUNK_RECORD_BYTES} bytes each", field="chunks")
    lengths = [length for length, _ in _RECORD.iter_unpack(chunks)]
    if 0 in lengths:
        raise BadInput("a chunk is empty", field="chunks")
    if chunks and sum(lengths) != size_bytes:
        raise BadInput(
            f"the chunks add up to {sum(lengths)} bytes, but the file has {size_bytes}", field="chunks"
        )


def copied_ranges(chunks: bytes, base_chunks: bytes) -> list[tuple[int, int, int]]:
    """(offset in the file, length, offset in the base) of what the base has; ascending, neighbours joined.

    chunks, base_chunks  records as FilePlan.chunks has them
    """
    base_offset_of: dict[tuple[int, bytes], int] = {}
    offset = 0
    for record in _RECORD.iter_unpack(base_chunks):
        base_offset_of.setdefault(record, offset)
        offset += record[0]
    copied: list[tuple[int, int, int]] = []
    offset = 0
    for record in _RECORD.iter_unpack(chunks):
        length: int = record[0]
        base_offset = base_offset_of.get(record)
        if base_offset is not None:
            start, known, base_start = copied[-1] if copied else (-1, 0, -1)
            if (start + known, base_start + known) == (offset, base_offset):
                copied[-1] = (start, known + length, base_start)
            else:
                copied.append((offset, length, base_offset))
        offset += length
    return copied


def missing_ranges(copied: Iterable[Sequence[int]], size_bytes: int) -> list[tuple[int, int]]:
    """(offset, length) of the ranges between the copied ones, ascending; none is empty."""
    missing = []
    at = 0
    for offset, length, *_ in (*copied, (size_bytes, 0)):
        if offset > at:
            missing.append((at, offset - at))
        at = offset + length
    return missing
