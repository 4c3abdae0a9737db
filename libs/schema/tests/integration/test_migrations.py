"""The schema as a database has it."""

import asyncio
import json

import asyncpg
from teleop_schema.migrate import migrate
from teleop_schema.migrations.versions.v0038_repeated_exports import RENAMED, TAG, renamed


async def test_migrating_twice_at_once_changes_nothing(database_url):
    """Services that start together may all migrate."""
    await asyncio.gather(*(asyncio.to_thread(migrate, database_url) for _ in range(3)))


async def test_view_gives_the_plain_shape_of_a_frame(database):
    """`teleop_frame_data` joins names and values into the JSON that a simple client sent."""
    await database.connection.execute("INSERT INTO robot VALUES ('robot_A', 'so101')")
    session = await database.value(
        """INSERT INTO teleop_session
               (stream_id, robot_id, robot_type, start_time, fps, state_names, action_names, delivery)
           VALUES (gen_random_uuid(), 'robot_A', 'so101', now(), 60,
                   '{a.pos,b.pos}', '{a.pos}', 'acknowledged')
           RETURNING id"""
    )
    await database.connection.execute(
        "INSERT INTO teleop_frame VALUES ($1, 0, now(), '{1.5,2}', '{-0.25}')", session
    )
    data = await database.value("SELECT data FROM teleop_frame_data")
    assert data == '{"action": {"a.pos": -0.25}, "observation": {"a.pos": 1.5, "b.pos": 2}}'


async def test_partitions_appear_ahead_of_the_sessions(database):
    """Asking for a session's partition makes it and the next one, and asking again is harmless."""
    for _ in range(2):
        await database.connection.execute("SELECT ensure_frame_partition(5999)")
    names = await database.fetch("SELECT relid::text FROM pg_partition_tree('teleop_frame') WHERE isleaf")
    assert {row["relid"] for row in names} == {f"teleop_frame_{part}" for part in (0, 1, 5, 6)}


async def test_a_renamed_partition_is_still_one(database):
    """Nothing is made beside it."""
    await database.connection.execute("ALTER TABLE teleop_frame_0 RENAME TO renamed")
    await database.connection.execute("SELECT ensure_frame_partition(5)")
    names = await database.fetch("SELECT relid::text FROM pg_partition_tree('teleop_frame') WHERE isleaf")
    assert {row["relid"] for row in names} == {"renamed", "teleop_frame_1"}


async def test_partitions_made_at_the_same_moment_do_not_collide(database_url):
    """Two services that open sessions of a new partition together both go on."""

    async def ensure() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("SELECT ensure_frame_partition(9000)")
        finally:
            await connection.close()

    await asyncio.gather(*(ensure() for _ in range(8)))


async def test_requests_for_exports_of_before_have_the_names_of_now(database):
    """Of the filter, as `GET /episodes` has them; what was not filtered by stays so."""
    before = {
        "robot_id": "a",
        "from": "2026-01-05T00:00:00Z",
        "to": None,
        "tags": ["x"],
        "episode_tags": ["e"],
    }
    for name, wanted in (("filtered", before), ("named", None)):
        await database.connection.execute(
            """INSERT INTO export (fingerprint, request, work_order, report, attempts_left)
               VALUES ($1, $2, '{}', '{}', 1)""",
            name,
            json.dumps({"repo_id": "u/d", "session_ids": [1], "filter": wanted}),
        )
    await database.connection.execute(TAG + renamed(RENAMED))
    rows = await database.fetch("SELECT request->>'filter' AS filter FROM export ORDER BY id")
    assert json.loads(rows[0]["filter"]) == {
        "robot_id": "a",
        "since": "2026-01-05T00:00:00Z",
        "until": None,
        "session_tags": ["x"],
        "tag": "e",
    }
    assert rows[1]["filter"] is None
