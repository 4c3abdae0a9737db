"""Row groups of Parquet files that their writer never closed."""

import contextlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teleop_dataset.errors import BrokenFile
from teleop_dataset.parquet_tail import read_tail
from teleop_dataset.parquet_thrift import read_footer
from teleop_dataset.repair.tables import bring, cut, leaves_of

SCHEMA = pa.schema(
    [
        ("action", pa.list_(pa.field("element", pa.float32()), 6)),
        ("done", pa.bool_()),
        ("sure", pa.bool_()),
        ("note", pa.string()),
        ("matrix", pa.list_(pa.field("element", pa.list_(pa.field("element", pa.float64()))))),
        ("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("index", pa.int64()),
    ]
)
PER_ROW = {"action": 6, "done": 1, "sure": 1, "note": 1, "matrix": 4, "picture": 1, "index": 1}
LEAVES = leaves_of(SCHEMA, PER_ROW)


def episode(first: int, rows: int) -> pa.Table:
    chance = np.random.default_rng(first)
    return pa.table(
        [
            pa.FixedSizeListArray.from_arrays(
                chance.normal(size=6 * rows).astype(np.float32), type=SCHEMA[0].type
            ),
            pa.array(chance.integers(0, 2, rows).astype(bool)),
            pa.array([True] * rows),
            pa.array([f"note {row % 3}" for row in range(rows)]),
            pa.array([[[1.0, 2.0], [3.0, float(row)]] for row in range(rows)], SCHEMA[4].type),
            pa.array([{"bytes": chance.bytes(300), "path": "p.png"} for _ in range(rows)], SCHEMA[5].type),
            pa.array(range(first, first + rows)),
        ],
        schema=SCHEMA,
    )


def written(lengths: list[int], **options: object) -> tuple[bytes, list[int], pa.Table]:
    """What a writer that was not closed has written, where each row group ends, and the table of them."""
    buffer = io.BytesIO()
    writer = pq.ParquetWriter(buffer, SCHEMA, compression="snappy", use_dictionary=True, **options)
    tables, ends = [], []
    for length in lengths:
        tables.append(episode(sum(len(table) for table in tables), length))
        writer.write_table(tables[-1])
        ends.append(buffer.tell())
    torn = buffer.getvalue()
    writer.close()
    return torn, ends, pa.concat_tables(tables)


TORN, ENDS, TABLE = written([5, 1, 40, 17])
LENGTHS = [5, 1, 40, 17]


def brought(data: bytes, folder) -> pa.Table | None:
    """The table as pyarrow reads it once it has a footer."""
    (folder / "torn.parquet").write_bytes(data)
    target = folder / "whole.parquet"
    target.unlink(missing_ok=True)
    found = bring(folder / "torn.parquet", target, SCHEMA, LEAVES)
    return pq.read_table(target) if found.row_groups else None


def test_rebuilt_footer_says_what_the_writer_would_have(tmp_path):
    """Every column chunk where pyarrow says that it is."""
    torn, _, table = written([5, 1, 40, 17])
    assert brought(torn, tmp_path).equals(table)
    complete = io.BytesIO()
    with pq.ParquetWriter(complete, SCHEMA, compression="snappy", use_dictionary=True) as writer:
        begin = 0
        for length in LENGTHS:
            writer.write_table(table.slice(begin, length))
            begin += length
    expected = pq.ParquetFile(complete).metadata
    found = pq.ParquetFile(tmp_path / "whole.parquet").metadata
    for group in range(expected.num_row_groups):
        for column in range(expected.num_columns):
            one, other = (each.row_group(group).column(column).to_dict() for each in (found, expected))
            for name in (
                "path_in_schema",
                "num_values",
                "total_compressed_size",
                "total_uncompressed_size",
                "data_page_offset",
                "dictionary_page_offset",
                "compression",
                "physical_type",
            ):
                assert one[name] == other[name]
            assert set(one["encodings"]) == set(other["encodings"])


def test_every_cut_keeps_exactly_the_whole_row_groups():
    """At whichever byte the file ends: the row groups before are found, and nothing else."""
    lengths = [3, 1]
    torn, ends, _ = written(lengths)
    for length in range(len(torn) + 1):
        tail = read_tail(torn[:length], LEAVES)
        whole = sum(end <= length for end in ends)
        assert [group.num_rows for group in tail.row_groups] == lengths[:whole]
        assert tail.end == ([4, *ends][whole])
        assert bool(tail.problem) == (length != tail.end or length < 4)


@pytest.mark.parametrize("whole", [1, 2, 3, 4])
def test_what_is_cut_off_does_not_change_the_rest(tmp_path, whole):
    """Rows and bytes of the row groups before the cut are what they were."""
    data = TORN[: ENDS[whole - 1] + 20]
    assert brought(data, tmp_path).equals(TABLE.slice(0, sum(LENGTHS[:whole])))
    repaired = (tmp_path / "whole.parquet").read_bytes()
    assert repaired[: ENDS[whole - 1]] == TORN[: ENDS[whole - 1]]


def test_zeros_at_the_end_are_no_rows():
    """What a file system leaves after a loss of power."""
    tail = read_tail(TORN + bytes(5000), LEAVES)
    assert len(tail.row_groups) == 4
    assert tail.end == len(TORN)
    assert tail.problem


def test_pages_and_dictionaries_that_overflow(tmp_path):
    """Columns of several pages, and of a dictionary that grew too large."""
    options = {"data_page_size": 2000, "dictionary_pagesize_limit": 3000, "write_batch_size": 50}
    torn, _, table = written([700, 3, 1200], **options)
    assert brought(torn, tmp_path).equals(table)
    metadata = pq.read_metadata(tmp_path / "whole.parquet")
    assert [metadata.row_group(group).num_rows for group in range(3)] == [700, 3, 1200]


def test_lists_of_any_length(tmp_path):
    """A column whose rows differ in length ends where the next one's dictionary begins."""
    schema = pa.schema([("number", pa.int64()), ("tasks", pa.list_(pa.string())), ("last", pa.int64())])
    leaves = leaves_of(schema, {"number": 1, "last": 1})
    buffer = io.BytesIO()
    writer = pq.ParquetWriter(buffer, schema, compression="snappy", use_dictionary=True)
    tables = [
        pa.table({"number": [0, 1], "tasks": [["a", "b"], []], "last": [7, 8]}, schema),
        pa.table({"number": [2], "tasks": [["c"]], "last": [9]}, schema),
    ]
    for table in tables:
        writer.write_table(table)
    (tmp_path / "torn").write_bytes(buffer.getvalue())
    assert bring(tmp_path / "torn", tmp_path / "whole", schema, leaves).row_groups == 2
    assert pq.read_table(tmp_path / "whole").equals(pa.concat_tables(tables))
    writer.close()


@pytest.mark.parametrize(("rows", "aligned"), [(5, True), (46, True), (20, False)])
def test_cut_keeps_the_first_rows(tmp_path, rows, aligned):
    """Whole row groups stay byte for byte; a cut within one writes the file anew."""
    brought(TORN, tmp_path)
    path = tmp_path / "whole.parquet"
    before = path.read_bytes()
    assert cut(path, rows)
    assert pq.read_table(path).equals(TABLE.slice(0, rows))
    if aligned:
        kept = ENDS[{5: 0, 46: 2}[rows]]
        assert path.read_bytes()[:kept] == before[:kept]
    assert not cut(path, rows)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TORN) - 1), st.integers(1, 255)), min_size=1, max_size=8))
def test_damaged_bytes_never_make_the_walk_fail(flips):
    """Whatever a bit flip does to headers: row groups before it are found, the file is never overrun."""
    data = bytearray(TORN)
    for position, mask in flips:
        data[position] ^= mask
    tail = read_tail(bytes(data), LEAVES)
    first = min(position for position, _ in flips)
    untouched = sum(end <= first for end in ENDS)
    assert [group.num_rows for group in tail.row_groups][:untouched] == LENGTHS[:untouched]
    assert tail.end <= len(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused(data):
    """Any bytes behind the magic."""
    assert read_tail(b"PAR1" + data, LEAVES).end <= len(data) + 4


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_foreign_footers_are_refused(data):
    """A footer is read, missing, or refused: nothing else."""
    file = b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"
    with contextlib.suppress(BrokenFile):
        read_footer(io.BytesIO(file), len(file))
