"""Files of some kB that were made to fill whatever reads them: refused before they do, for a named reason."""

import json
import shutil

import pyarrow as pa
import pytest
from teleop_dataset.errors import NotRepairable
from teleop_dataset.folder import TableSeen, look
from teleop_dataset.parquet_tail import read_tail
from teleop_dataset.repair import find_sound, repair
from teleop_dataset.repair.rows import RowReader
from teleop_dataset.repair.source import read_tasks
from teleop_dataset.repair.tables import leaves_of
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.info import DEFAULT_FEATURES
from teleop_testing.datasets.parquet_bombs import (
    crowded_footer,
    deep_schema,
    equal_rows,
    long_text,
    without_footer,
)
from teleop_testing.datasets.repaired import DATA, META

INFO, TASKS = "meta/info.json", "meta/tasks.parquet"
SCHEMA = data_schema(DEFAULT_FEATURES)
# 5 kB of a file.
ROWS = 10_000_000
MANY_ROWS = equal_rows(SCHEMA, ROWS)
LISTS = pa.schema([*SCHEMA, ("action", pa.list_(pa.float32()))])


@pytest.fixture
def changed(recording, tmp_path):
    """A dataset that LeRobot closed, with another file in it."""

    def changed(path: str, content: bytes):
        source = shutil.copytree(recording.whole, tmp_path / "picking")
        (source / path).write_bytes(content)
        return source

    return changed


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (MANY_ROWS, f"{len(MANY_ROWS)} bytes would be {ROWS} rows"),
        (equal_rows(SCHEMA, 100_000, groups=300), "bytes would be 30000000 rows"),
        (crowded_footer(SCHEMA, 600_000), "it has more than 2000000 elements"),
        (equal_rows(LISTS, 1, elements=10**9), "bytes of one row group"),
        (long_text(2 * 10**9), "bytes of one row group"),
    ],
    ids=["equal rows", "the same pages again and again", "row groups", "a list", "a text"],
)
def test_a_table_that_expands_is_no_table(changed, content, problem):
    """Whoever looks at the folder sees why, as sync-agent does each minute."""
    seen = look(changed(DATA, content)).files[DATA].content
    assert isinstance(seen, TableSeen)
    assert (seen.row_groups, problem in seen.problem) == (None, True), seen.problem


def test_rows_that_expand_are_lost(changed, tmp_path):
    """No memory is taken for them."""
    source = changed(DATA, MANY_ROWS)
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert report.episodes == 0
    assert f"would be {ROWS} rows" in report.as_text()


def test_a_footer_is_not_made_again_for_them():
    """Where it is missing, it would list the same rows."""
    tail = read_tail(without_footer(MANY_ROWS), leaves_of(SCHEMA, dict.fromkeys(SCHEMA.names, 1)))
    assert tail.row_groups == []
    assert f"would be {ROWS} rows" in tail.problem


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (META, equal_rows(pa.schema([("episode_index", pa.int64())]), ROWS)),
        (META, deep_schema(100_000)),
        (TASKS, equal_rows(pa.schema([("task_index", pa.int64()), ("task", pa.string())]), ROWS)),
    ],
    ids=["episodes", "a schema", "tasks"],
)
def test_the_rest_of_the_dataset_is_still_there(changed, tmp_path, path, content):
    """Rows of episodes and tasks that expand are made again."""
    source = changed(path, content)
    assert find_sound(source) is None
    assert repair(source, tmp_path / "repaired").episodes > 0


def test_many_tasks_are_not_read(changed):
    """They are counted first."""
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())])
    source = changed(TASKS, equal_rows(schema, ROWS))
    before = pa.default_memory_pool().max_memory()
    assert read_tasks(source) == []
    assert pa.default_memory_pool().max_memory() == before


def test_a_shape_of_many_dimensions_is_refused(recording, changed, tmp_path):
    """Schemas of nested lists are made by recursion."""
    info = json.loads((recording.whole / INFO).read_bytes())
    info["features"]["action"]["shape"] = [1] * 100_000
    source = changed(INFO, json.dumps(info).encode())
    assert find_sound(source) is None
    with pytest.raises(NotRepairable, match="action has 100000 dimensions"):
        repair(source, tmp_path / "repaired")


def test_a_lack_of_memory_is_named(recording, tmp_path, monkeypatch):
    """It is no mistake of the repair."""

    def read(*_about: object) -> None:
        raise MemoryError

    monkeypatch.setattr(RowReader, "read", read)
    assert find_sound(recording.whole) is None
    with pytest.raises(NotRepairable, match="takes more memory than its repair may have"):
        repair(recording.whole, tmp_path / "repaired")


def test_totals_and_statistics_of_any_size_are_not_followed(recording, tmp_path):
    """Neither counted up to, nor read."""
    source = shutil.copytree(recording.whole, tmp_path / "picking")
    info = json.loads((source / INFO).read_bytes())
    (source / INFO).write_text(json.dumps(info | {"total_episodes": 10**12}))
    with (source / "meta/stats.json").open("r+b") as stats:
        stats.truncate(10**10)
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert report.episodes == info["total_episodes"]
    assert "lost: 999999999996 episodes from episode 4 on" in report.as_text()
    assert "rebuilt meta/stats.json" in report.as_text()
