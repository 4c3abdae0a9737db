"""Parquet files of some kB that were made to fill whatever reads them."""

import io
import struct

import pyarrow as pa
import pyarrow.parquet as pq
from teleop_dataset.parquet_thrift import MAGIC, encode, parquet, read_footer, write_footer

_END = struct.Struct("<I4s")
_INT32, _INT64, _FLOAT, _DOUBLE, _BYTES = 1, 2, 4, 5, 6
# One value of each physical type, as a dictionary has it.
_VALUE = {_INT32: bytes(4), _INT64: bytes(8), _FLOAT: bytes(4), _DOUBLE: bytes(8), _BYTES: b"\1\0\0\0x"}
_DICTIONARY, _DATA = 2, 0
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_DEEPEST_LEVEL = 3
# A field's head in Thrift's compact protocol: a list of structures whose length follows.
_LONG_LIST_OF_STRUCTURES = 0xFC


def equal_rows(schema: pa.Schema, rows: int, *, groups: int = 1, elements: int = 1) -> bytes:
    """A file of `groups` times `rows` equal rows, whose columns take some bytes each; all groups are the same
    pages.

    elements  of each list; where they are not one, there is one row
    """
    footer = _empty_footer(schema)
    body, columns = bytearray(MAGIC), []
    for path, kind in _leaves(footer.schema):
        count = elements if len(path) > 1 else rows
        begin = len(body)
        body += _page(_VALUE[kind], 1, dictionary=True)
        data = len(body)
        levels = _level((1, 0), (count - 1, 1)) + _level((count, _DEEPEST_LEVEL))
        # Numbers of the dictionary's values, of one bit each.
        numbers = b"\1" + _run(count, 0)
        body += _page((levels if len(path) > 1 else _level((count, 1))) + numbers, count)
        about = parquet.ColumnMetaData(
            type=kind,
            encodings=[_PLAIN, _RLE, _RLE_DICTIONARY],
            path_in_schema=list(path),
            codec=0,
            num_values=count,
            total_uncompressed_size=len(body) - begin,
            total_compressed_size=len(body) - begin,
            data_page_offset=data,
            dictionary_page_offset=begin,
        )
        columns.append(parquet.ColumnChunk(file_offset=0, meta_data=about))
    group = parquet.RowGroup(columns=columns, total_byte_size=len(body), num_rows=rows)
    footer.row_groups, footer.num_rows = [group] * groups, rows * groups
    return bytes(body) + write_footer(footer)


def long_text(size_bytes: int) -> bytes:
    """A file with one text, which has that size once it is decompressed."""
    file = io.BytesIO()
    pq.write_table(pa.table({"task": ["x"]}), file)
    footer = read_footer(file, file.tell())
    footer.row_groups[0].columns[0].meta_data.total_uncompressed_size = size_bytes
    content = file.getvalue()
    return without_footer(content) + write_footer(footer)


def without_footer(file: bytes) -> bytes:
    """The same, as a killed writer leaves it."""
    length, _ = _END.unpack(file[-_END.size :])
    return file[: -_END.size - length]


def crowded_footer(schema: pa.Schema, row_groups: int) -> bytes:
    """A file without rows, whose footer lists so many row groups, of a few bytes each."""
    footer = _empty_footer(schema)
    group = parquet.RowGroup(columns=[], total_byte_size=0, num_rows=0)
    footer.row_groups = [group]
    one = encode(group)
    before, after = encode(footer).split(one)
    # `before` ends with the list's own head, which has its length.
    encoded = before[:-1] + bytes([_LONG_LIST_OF_STRUCTURES]) + _varint(row_groups) + one * row_groups + after
    return MAGIC + encoded + _END.pack(len(encoded), MAGIC)


def deep_schema(levels: int) -> bytes:
    """A file without rows, whose one column lies so many structures deep."""
    groups = [parquet.SchemaElement(name=b"a", num_children=1, repetition_type=1)] * levels
    leaf = parquet.SchemaElement(name=b"a", type=_INT32, repetition_type=1)
    footer = parquet.FileMetaData(version=1, schema=[*groups, leaf], num_rows=0, row_groups=[])
    return MAGIC + write_footer(footer)


def _empty_footer(schema: pa.Schema) -> "parquet.FileMetaData":
    empty = io.BytesIO()
    pq.ParquetWriter(empty, schema).close()
    return read_footer(empty, empty.tell())


def _leaves(elements: "list[parquet.SchemaElement]") -> list[tuple[tuple[bytes, ...], int]]:
    """Path and physical type of each column."""
    rest = iter(elements)
    found: list[tuple[tuple[bytes, ...], int]] = []

    def descend(path: tuple[bytes, ...], children: int) -> None:
        for _ in range(children):
            element = next(rest)
            if element.num_children:
                descend((*path, element.name), element.num_children)
            else:
                found.append(((*path, element.name), element.type))

    descend((), next(rest).num_children)
    return found


def _page(content: bytes, values: int, *, dictionary: bool = False) -> bytes:
    about = (
        {"dictionary_page_header": parquet.DictionaryPageHeader(num_values=values, encoding=_PLAIN)}
        if dictionary
        else {
            "data_page_header": parquet.DataPageHeader(
                num_values=values,
                encoding=_RLE_DICTIONARY,
                definition_level_encoding=_RLE,
                repetition_level_encoding=_RLE,
            )
        }
    )
    header = parquet.PageHeader(
        type=_DICTIONARY if dictionary else _DATA,
        uncompressed_page_size=len(content),
        compressed_page_size=len(content),
        **about,
    )
    return encode(header) + content


def _level(*runs: tuple[int, int]) -> bytes:
    """How deep values lie, as runs of (how many, how deep)."""
    encoded = b"".join(_run(count, level) for count, level in runs if count)
    return struct.pack("<I", len(encoded)) + encoded


def _run(count: int, value: int) -> bytes:
    return _varint(count << 1) + bytes([value])


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
