"""Turns a session's columns beyond state and action, which the table has packed by frame, into Arrow;
pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from teleop_schema.columns import Column, head_of, pack_texts, positions_in, unpack_texts

# Positions of columns; the frames that have exactly these;
# the bytes of their values of fixed size as (frames, bytes); and for each frame the bytes after these.
type _Alike = tuple[list[int], NDArray[np.int64], NDArray[np.uint8], list[bytes]]


def arrow_type(column: Column) -> pa.DataType:
    """A plain value for shape [1]; otherwise a list of the values in C order, as long as the shape requires.
    Texts are strings."""
    kind = pa.type_for_alias(column.dtype)
    return kind if column.shape == (1,) else pa.list_(pa.field("element", kind), column.values)


def unpack(
    packed: pa.ChunkedArray, columns: Sequence[Column], names: Sequence[str] | None = None
) -> list[pa.Array]:
    """One array per column; null where a frame has no value of it.

    packed   binary, one row per frame, as `teleop_schema.columns` describes; null: the frame has none
    columns  all columns of the session
    names    names of the columns to unpack; None: all
    """
    known = {column.position: column for column in columns}
    named = {column.name: column for column in columns}
    alike = list(_alike(packed, known))
    wanted = columns if names is None else [named[name] for name in names]
    return [
        _unpacked_texts(len(packed), alike, column, known)
        if column.is_text
        else _unpacked(len(packed), alike, column, known)
        for column in wanted
    ]


def pack(arrays: Sequence[pa.Array], columns: Sequence[Column]) -> pa.Array:
    """The inverse of `unpack`: `arrays` has one array per column, at least one; null: a frame without any."""
    present = np.stack([_present(array) for array in arrays], axis=1)
    texts = {
        column.position: array.cast(pa.binary()).to_pylist()
        for array, column in zip(arrays, columns, strict=True)
        if column.is_text
    }
    contents = [_bytes_of(array, column) for array, column in zip(arrays, columns, strict=True)]
    packed: list[bytes | None] = [None] * len(present)
    for pattern in np.unique(present, axis=0):
        chosen = sorted(np.flatnonzero(pattern).tolist(), key=lambda number: columns[number].position)
        if not chosen:
            continue
        head = head_of([columns[number].position for number in chosen])
        rows = np.flatnonzero((present == pattern).all(axis=1))
        values = np.concatenate([contents[number][rows] for number in chosen], axis=1)
        told = [position for number in chosen if (position := columns[number].position) in texts]
        for row, content in zip(rows.tolist(), values, strict=True):
            packed[row] = head + content.tobytes() + pack_texts({each: texts[each][row] for each in told})
    return pa.array(packed, pa.binary())


def _bytes_of(array: pa.Array, column: Column) -> NDArray[np.uint8]:
    """(frames, bytes of a value), 0 if there is none; without the bytes of texts."""
    found = np.zeros((len(array), column.size_bytes), np.uint8)
    if column.is_text:
        return found
    some = array.drop_null()
    flat = some.flatten() if isinstance(some, pa.FixedSizeListArray) else some
    kind = np.dtype(column.dtype).newbyteorder("<")
    values = np.ascontiguousarray(flat.to_numpy(zero_copy_only=False).astype(kind, copy=False))
    found[_present(array)] = values.view(np.uint8).reshape(len(some), column.size_bytes)
    return found


def _present(array: pa.Array) -> NDArray[np.bool_]:
    present: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return present


def _unpacked(frames: int, alike: Sequence[_Alike], column: Column, known: Mapping[int, Column]) -> pa.Array:
    values = np.zeros((frames, column.values), np.dtype(column.dtype))
    present = np.zeros(frames, bool)
    for positions, rows, content, _ in alike:
        if column.position not in positions:
            continue
        before = [each for each in positions if each < column.position]
        start = 1 + int(content[0, 0]) + sum(known[each].size_bytes for each in before)
        part = np.ascontiguousarray(content[:, start : start + column.size_bytes])
        values[rows] = part.view(np.dtype(column.dtype).newbyteorder("<"))
        present[rows] = True
    flat = pa.array(values.reshape(-1))
    if column.shape == (1,):
        return flat if present.all() else pa.array(values[:, 0], mask=~present)
    kind = arrow_type(column)
    mask = None if present.all() else pa.array(~present)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=mask)


def _unpacked_texts(
    frames: int, alike: Sequence[_Alike], column: Column, known: Mapping[int, Column]
) -> pa.Array:
    found: list[bytes | None] = [None] * frames
    for positions, rows, _, behind in alike:
        if column.position in positions:
            number = sum(known[each].is_text for each in positions if each < column.position)
            for row, texts in zip(rows.tolist(), behind, strict=True):
                found[row] = next(islice(unpack_texts(texts), number, None))
    return pa.array(found, pa.binary()).cast(pa.string())


def _alike(packed: pa.ChunkedArray, known: Mapping[int, Column]) -> Iterator[_Alike]:
    texts = packed.to_pylist()
    found: dict[bytes, list[int]] = {}
    for row, text in enumerate(texts):
        if text:
            found.setdefault(text[: 1 + text[0]], []).append(row)
    for head, rows in found.items():
        positions = positions_in(head)
        size = len(head) + sum(known[position].size_bytes for position in positions)
        joined = b"".join([texts[row][:size] for row in rows])
        behind = [texts[row][size:] for row in rows]
        yield positions, np.array(rows), np.frombuffer(joined, np.uint8).reshape(len(rows), -1), behind
