"""How each file of a dataset is written: documents to the byte as LeRobot does, tables as it reads them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.v3 import layout
from teleop_dataset.v3.layout import FIRST_PLACE, FileNumber
from teleop_dataset.v3.tasks import tasks_table

# What LeRobot itself encodes with: dictionaries everywhere.
LEROBOTS_ENCODING: Mapping[str, Any] = {"use_dictionary": True}


class ParquetSeries:
    """Row groups in a series of files of about `file_bytes` each."""

    def __init__(
        self,
        root: Path,
        schema: pa.Schema,
        path_of: Callable[[FileNumber], str],
        encoding: Mapping[str, Any],
        file_bytes: int,
    ) -> None:
        self._file_bytes = file_bytes
        self.place = FIRST_PLACE
        self._root = root
        self._schema = schema
        self._path_of = path_of
        self._encoding = encoding
        self._writer: pq.ParquetWriter | None = None
        self._bytes = 0

    def make_room(self, size_bytes: int) -> FileNumber:
        """The place that a row group of `size_bytes` will be written to."""
        # Bytes in memory, because what they come to on the disk is known only later: files stay below their
        # limit.
        if self._writer is not None and self._bytes + size_bytes > self._file_bytes:
            self.close()
            self.place = self.place.following()
        return self.place

    def write(self, table: pa.Table) -> None:
        """Append `table` as one row group to the file at `place`."""
        if self._writer is None:
            self._writer = open_parquet(self._root / self._path_of(self.place), self._schema, self._encoding)
            self._bytes = 0
        # Else pyarrow cuts a long episode into several row groups.
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._bytes += table.nbytes

    def close(self) -> None:
        """Complete the open file, if there is one: without its footer nobody can read it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def open_parquet(
    path: Path, schema: pa.Schema, encoding: Mapping[str, Any] = LEROBOTS_ENCODING
) -> pq.ParquetWriter:
    """A new Parquet file of a dataset's data or episodes; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="snappy", **encoding)


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """`meta/tasks.parquet`: `tasks` in the order of their indexes."""
    pq.write_table(tasks_table(tasks), root / layout.TASKS)


def write_document(root: Path, path: str, document: Mapping[str, Any]) -> None:
    """A document of `meta/`, such as `layout.INFO`."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encode_document(document))


def encode_document(document: Mapping[str, Any]) -> bytes:
    """As lerobot.utils.io_utils.write_json (0.6.1) has it: without a line break at the end."""
    return json.dumps(document, indent=4, ensure_ascii=False).encode()
