"""Frames are found by their time without reading all of them."""

import asyncio

import asyncpg
from teleop_schema.migrate import migrate
from teleop_testing.waiting import until

INDEXES = """
SELECT indrelid::regclass::text AS partition, indexrelid::regclass::text AS name, indisvalid AS valid
  FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
 WHERE amname = 'brin' ORDER BY 1
"""


async def test_every_partition_has_an_index_on_the_time(database):
    """Those of the first migration, and those that come later."""
    await database.connection.execute("SELECT ensure_frame_partition(5000)")
    indexes = await database.fetch(INDEXES)
    names = [f"teleop_frame_{part}" for part in (0, 1, 5, 6)]
    assert [(each["partition"], each["name"]) for each in indexes] == [
        (name, f"{name}_time") for name in names
    ]


async def test_partitions_of_an_older_release_get_theirs(database, database_url):
    """Also one whose index was not finished, and one that somebody renamed."""
    await database.connection.execute("DROP INDEX teleop_frame_0_time")
    await database.connection.execute("ALTER TABLE teleop_frame_0 RENAME TO renamed")
    await database.connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'teleop_frame_1_time'::regclass"
    )
    await asyncio.gather(*(asyncio.to_thread(migrate, database_url) for _ in range(3)))
    indexes = await database.fetch(INDEXES)
    assert [(each["name"], each["valid"]) for each in indexes] == [
        ("renamed_time", True),
        ("teleop_frame_1_time", True),
    ]


async def test_writers_go_on_while_the_index_is_made(database, database_url):
    """It waits for a transaction that has begun, and nobody waits for it."""
    await database.connection.execute("DROP INDEX teleop_frame_0_time")
    insert = "INSERT INTO teleop_frame VALUES (1, $1, now(), '{}', '{}')"
    writer = await asyncpg.connect(database_url)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute(insert, 0)
    migration = asyncio.create_task(asyncio.to_thread(migrate, database_url))
    await until(lambda: database.value("SELECT count(*) FROM pg_stat_progress_create_index"))
    await database.connection.execute(insert, 1)
    await writer.execute(insert, 2)
    await transaction.commit()
    await migration
    await writer.close()
    assert (await database.fetch(INDEXES))[0]["valid"]
    assert await database.frame_indexes(1) == [0, 1, 2]


async def test_a_stretch_of_time_is_read_by_the_index(database):
    """Where it is worth it: a minute of a day."""
    await database.connection.execute(
        """INSERT INTO teleop_frame
           SELECT 1, i, timestamptz '2026-01-01' + i * interval '1 s', array_fill(i::real, '{64}'), '{}'
             FROM generate_series(0, 86399) AS i"""
    )
    await database.connection.execute("VACUUM ANALYZE teleop_frame")
    plan = await database.fetch(
        """EXPLAIN SELECT count(*) FROM teleop_frame
            WHERE "timestamp" >= '2026-01-01 12:00+0' AND "timestamp" < '2026-01-01 12:01+0'"""
    )
    assert any("teleop_frame_0_time" in row["QUERY PLAN"] for row in plan)
