"""Copies Parquet files that may lack their footer to another folder, with a footer."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.disk.opening import open_regular

from teleop_dataset.errors import BrokenFile
from teleop_dataset.parquet_tail import Leaf, read_tail
from teleop_dataset.parquet_thrift import parquet, read_footer, write_footer

# Bytes at a time, so that a file of any size is copied with little memory.
COPY_BYTES = 4 * 1024**2
_CREATED_BY = "lerobot-backend (footer rebuilt from the pages)"


@dataclass(frozen=True)
class Brought:
    """A copied table.

    finished  whether it had its footer
    problem   what is missing at its end, if anything
    """

    finished: bool
    row_groups: int
    problem: str = ""


def bring(source: Path, target: Path, schema: pa.Schema, leaves: list[Leaf]) -> Brought:
    """Copy a Parquet file; if it has no footer, all of its whole row groups and a new footer.

    schema  of the table, for the new footer; `leaves` are its columns in the file
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(source) as file:
        size = file.seek(0, io.SEEK_END)
        try:
            footer, problem = read_footer(file, size), ""
        except BrokenFile as error:
            footer, problem = None, error.detail
        if footer is not None:
            copy_bytes(file, target, size)
            return Brought(True, len(footer.row_groups))
        if not size:
            return Brought(False, 0, "it is empty")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            tail = read_tail(data, leaves)
        if tail.row_groups:
            metadata = _metadata(schema, tail.row_groups)
            copy_bytes(file, target, tail.end, write_footer(metadata))
    return Brought(False, len(tail.row_groups), problem or tail.problem)


def cut(path: Path, rows: int) -> bool:
    """Keep only the first `rows` rows of a Parquet file; says whether there were more.

    The row groups that stay do so byte for byte, if the rows end where a row group ends.
    """
    with open_regular(path) as file:
        metadata = read_footer(file, file.seek(0, io.SEEK_END))
    if metadata.num_rows == rows:
        return False
    ends = list(accumulate(group.num_rows for group in metadata.row_groups))
    if rows not in ends:
        table = pq.read_table(path).slice(0, rows)
        pq.write_table(table, path, compression="snappy", use_dictionary=True)
        return True
    metadata.row_groups = metadata.row_groups[: ends.index(rows) + 1]
    metadata.num_rows = rows
    last = metadata.row_groups[-1].columns[-1].meta_data
    begin = min(last.dictionary_page_offset or last.data_page_offset, last.data_page_offset)
    with path.open("r+b") as file:
        file.truncate(begin + last.total_compressed_size)
        file.seek(0, io.SEEK_END)
        file.write(write_footer(metadata))
    return True


def copy_bytes(file: Any, target: Path, length: int, ending: bytes = b"") -> None:
    """The first `length` bytes of an open file, and `ending`, as a new file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file.seek(0)
    with target.open("xb") as copy:
        while length > 0 and (block := file.read(min(length, COPY_BYTES))):
            copy.write(block)
            length -= len(block)
        copy.write(ending)


def read_episodes(path: Path) -> pa.Table | None:
    """A copied table of episodes; None if its values can't be read, or belong to none."""
    try:
        table = pq.read_table(path)
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException):
        return None
    return table if "episode_index" in table.column_names else None


def leaves_of(schema: pa.Schema, values_per_row: Mapping[str, int]) -> list[Leaf]:
    """The columns in a file of this schema.

    values_per_row  for columns that have the same number in each row
    """
    elements = iter(_empty_footer(schema).schema)
    root = next(elements)
    leaves: list[Leaf] = []

    def descend(path: tuple[bytes, ...], children: int) -> None:
        for _ in range(children):
            element = next(elements)
            below = (*path, element.name)
            if element.num_children:
                descend(below, element.num_children)
            else:
                leaves.append(Leaf(below, element.type, values_per_row.get(below[0].decode())))

    descend((), root.num_children)
    return leaves


def _empty_footer(schema: pa.Schema) -> Any:
    """The footer of a file of this schema without rows, as pyarrow writes it."""
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, schema, compression="snappy", use_dictionary=True).close()
    return read_footer(buffer, buffer.tell())


def _metadata(schema: pa.Schema, row_groups: list[Any]) -> Any:
    metadata = _empty_footer(schema)
    return parquet.FileMetaData(
        version=metadata.version,
        schema=metadata.schema,
        num_rows=sum(group.num_rows for group in row_groups),
        row_groups=row_groups,
        key_value_metadata=metadata.key_value_metadata,
        created_by=_CREATED_BY,
    )
