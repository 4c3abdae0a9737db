"""Computes the footer that a Parquet file lacks because its writer was killed, from its pages.

A file that pyarrow's ParquetWriter has not closed is a row of pages.
Each follows a Thrift header with its kind, its length and its number of values:

    "PAR1"  [dictionary page] data page …  [dictionary page] data page …        one row group
            └── column chunk of column 0 ─┘└── column chunk of column 1 ─┘ …

Nothing marks where a column chunk or a row group begins. It follows from the schema: all columns but booleans
begin with a dictionary page, and the data pages of a chunk hold (rows of the group) x (values per row).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

from teleop_dataset.errors import BrokenFile
from teleop_dataset.parquet_thrift import MAGIC, check_group, decode, parquet

# pyarrow's headers are about 20 to 100 bytes; with a page's smallest and largest value up to 8 KiB more.
PAGE_HEADER_BYTES = 512
# So that damaged bytes that look like a header's beginning are not read on and on.
MAX_PAGE_HEADER_BYTES = 64 * 1024
# The format has 32 bits, signed, for it (parquet.thrift, PageHeader).
MAX_PAGE_BYTES = 2**31 - 1
# Pages of one file, each found by reading its header; LeRobot's files of 100 MB have some thousands.
MAX_PAGES = 200_000
# Limit for a column chunk; pages have about 1 MiB or 20,000 values.
MAX_COLUMN_PAGES = 2_000

# Enumerations of parquet.thrift.
BOOLEAN = 0
SNAPPY = 1
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_RLE = 3
_ENCODINGS = 10


@dataclass(frozen=True)
class Leaf:
    """A column of plain values.

    values_per_row  None if rows differ; then the next column must have a dictionary page
    """

    path: tuple[bytes, ...]
    physical_type: int
    values_per_row: int | None


@dataclass(frozen=True)
class _Page:
    begin: int
    end: int
    uncompressed_bytes: int
    dictionary: bool
    values: int
    encodings: tuple[int, ...]


@dataclass
class Tail:
    """The contents of a file without a footer.

    row_groups  complete row groups
    end         where the last of them ends
    problem     why the bytes after it can't be used; empty if there are none
    """

    row_groups: list[Any] = field(default_factory=list)
    end: int = len(MAGIC)
    problem: str = ""


def read_tail(data: bytes | mmap, leaves: Sequence[Leaf]) -> Tail:
    """The row groups in `data`, a Parquet file of these columns without its footer."""
    tail = Tail()
    if data[: len(MAGIC)] != MAGIC:
        tail.problem = "it does not begin as a Parquet file" if len(data) else "it is empty"
        return tail
    pages: list[_Page] = []
    try:
        pages.extend(_read_pages(data))
    except BrokenFile as error:
        tail.problem = error.detail
    used = rows = 0
    while (found := _take_group(pages, used, leaves)) is not None:
        group, used = found
        try:
            rows += group.num_rows
            check_group(group, len(data), rows)
        except BrokenFile as error:
            tail.problem = error.detail
            break
        tail.row_groups.append(group)
        tail.end = pages[used - 1].end
    if tail.end < len(data) and not tail.problem:
        tail.problem = "the last row group is incomplete"
    return tail


def _read_pages(data: bytes | mmap) -> Iterator[_Page]:
    position = len(MAGIC)
    for _ in range(MAX_PAGES):
        if position == len(data):
            return
        try:
            header, length = decode(parquet.PageHeader, data[position : position + PAGE_HEADER_BYTES])
        except BrokenFile:
            header, length = decode(parquet.PageHeader, data[position : position + MAX_PAGE_HEADER_BYTES])
        page = _page(header, position, length)
        if page.end > len(data):
            raise BrokenFile("the last page is cut off")
        yield page
        position = page.end
    raise BrokenFile(f"it has more than {MAX_PAGES} pages", limit=MAX_PAGES)


def _page(header: Any, position: int, length: int) -> _Page:
    if header.type == _DICTIONARY_PAGE and header.dictionary_page_header:
        content = header.dictionary_page_header
        encodings: tuple[int, ...] = (content.encoding,)
    elif header.type == _DATA_PAGE and header.data_page_header:
        content = header.data_page_header
        encodings = (content.encoding, content.definition_level_encoding, content.repetition_level_encoding)
    else:
        raise BrokenFile(f"a page of kind {header.type}, which LeRobot never writes")
    if not all(0 <= encoding < _ENCODINGS for encoding in encodings):
        raise BrokenFile(f"a page in an unknown encoding: {encodings}")
    sizes = (header.compressed_page_size, header.uncompressed_page_size, content.num_values)
    if not all(0 <= size <= MAX_PAGE_BYTES for size in sizes):
        raise BrokenFile("a page header with impossible sizes", limit=MAX_PAGE_BYTES)
    return _Page(
        position,
        position + length + header.compressed_page_size,
        length + header.uncompressed_page_size,
        header.type == _DICTIONARY_PAGE,
        content.num_values,
        encodings,
    )


def _take_group(pages: list[_Page], begin: int, leaves: Sequence[Leaf]) -> tuple[Any, int] | None:
    """The row group that begins with the page number `begin`, and the page after it; None if it is not whole.

    Only its number of rows is unknown, so each number that the first column allows is tried.
    """
    first = leaves[0]
    per_row = first.values_per_row or 1
    values = 0
    data_begin = begin + (first.physical_type != BOOLEAN)
    for page in pages[data_begin : data_begin + MAX_COLUMN_PAGES]:
        if page.dictionary:
            return None
        values += page.values
        if values and values % per_row == 0:
            found = _group_of(pages, begin, leaves, values // per_row)
            if found is not None:
                return found
    return None


def _group_of(pages: list[_Page], begin: int, leaves: Sequence[Leaf], rows: int) -> tuple[Any, int] | None:
    position = begin
    columns = []
    for leaf in leaves:
        chunk = position
        if leaf.physical_type != BOOLEAN:
            if position == len(pages) or not pages[position].dictionary:
                return None
            position += 1
        end = _end_of_column(pages, position, leaf.values_per_row and rows * leaf.values_per_row)
        if end is None:
            return None
        position = end
        columns.append(_column(leaf, pages[chunk:position]))
    size = sum(column.meta_data.total_uncompressed_size for column in columns)
    return parquet.RowGroup(columns=columns, total_byte_size=size, num_rows=rows), position


def _end_of_column(pages: list[_Page], position: int, values: int | None) -> int | None:
    """The page after the data pages from `position` on that have this many values; None if there are none."""
    found = 0
    for number in range(position, min(len(pages), position + MAX_COLUMN_PAGES)):
        if found == values or pages[number].dictionary:
            return number if found and values in (None, found) else None
        found += pages[number].values
    return min(len(pages), position + MAX_COLUMN_PAGES) if found and found == values else None


def _column(leaf: Leaf, pages: list[_Page]) -> Any:
    data_pages = [page for page in pages if not page.dictionary]
    meta = parquet.ColumnMetaData(
        type=leaf.physical_type,
        encodings=sorted({encoding for page in pages for encoding in page.encodings} | {_RLE}),
        path_in_schema=list(leaf.path),
        codec=SNAPPY,
        num_values=sum(page.values for page in data_pages),
        total_uncompressed_size=sum(page.uncompressed_bytes for page in pages),
        total_compressed_size=pages[-1].end - pages[0].begin,
        data_page_offset=data_pages[0].begin,
        dictionary_page_offset=pages[0].begin if pages[0].dictionary else None,
    )
    return parquet.ColumnChunk(file_offset=0, meta_data=meta)
