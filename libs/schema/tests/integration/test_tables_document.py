"""docs/tables.md says what the database has, and its examples work for the role that reads."""

import re
from pathlib import Path

import asyncpg
import psycopg
import pytest
from teleop_schema.migrations.reader import READABLE, let_reader_read, make_reader

DOCUMENT = (Path(__file__).parents[4] / "docs/tables.md").read_text()
SECTION = re.compile(r"^### `(\w+)`\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([\w.<>]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
EXAMPLES = re.findall(r"^```sql\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
 WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


async def columns_of(database, table: str) -> list[tuple[str, str]]:
    return [(row["name"], row["type"]) for row in await database.fetch(COLUMNS, table)]


def test_every_readable_table_is_described():
    """And no other."""
    assert sorted(name for name, _ in SECTION.findall(DOCUMENT)) == sorted(READABLE)


@pytest.mark.parametrize("table", READABLE)
async def test_its_columns_are_those_of_the_database(database, table):
    """In their order, with their types, and each with a meaning."""
    described = ROW.findall(dict(SECTION.findall(DOCUMENT))[table])
    assert [(name, kind) for name, kind, _ in described] == await columns_of(database, table)


async def record(database) -> None:
    """Session 1, of a second, with an episode."""
    await database.connection.execute("INSERT INTO robot VALUES ('robot_A', 'so101')")
    await database.connection.execute(
        """INSERT INTO teleop_session
               (stream_id, robot_id, robot_type, start_time, fps, state_names, action_names, delivery)
           VALUES (gen_random_uuid(), 'robot_A', 'so101', now(), 60, '{gripper.pos}', '{gripper.pos}',
                   'acknowledged')"""
    )
    await database.connection.execute(
        """INSERT INTO teleop_frame (session_id, frame_index, "timestamp", state, action)
           SELECT 1, i, now() + i * interval '16667 us', array[i], array[i + 1]
             FROM generate_series(0, 59) AS i"""
    )
    await database.connection.execute(
        "INSERT INTO episode (session_id, episode_index, start_frame, end_frame) VALUES (1, 0, 0, 60)"
    )


async def test_the_view_of_a_session_has_the_columns_described(database):
    """But for the joints, which each session has others of."""
    await record(database)
    await database.value("SELECT make_session_view(1)")
    section = DOCUMENT.partition("## `session_<id>`")[2].partition("\n## ")[0]
    described = [(name.replace("<name>", "gripper.pos"), kind) for name, kind, _ in ROW.findall(section)]
    assert described == await columns_of(database, "session_1")


async def test_the_examples_work(database, database_url):
    """As they are, in their order, by the role that reads; those of frames find some."""
    await record(database)
    with psycopg.connect(database_url) as connection:
        make_reader(connection)
        let_reader_read(connection)
    reader = await asyncpg.connect(database_url.replace("//teleop@", "//reader@"))
    try:
        assert len(EXAMPLES) > 4
        for example in EXAMPLES:
            for statement in example.split(";"):
                rows = await reader.fetch(statement)
                assert rows or "frame_gap" in statement or "video_chunk" in statement, statement
    finally:
        await reader.close()
