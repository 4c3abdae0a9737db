"""A view of a session with one column per joint."""

import asyncio

import asyncpg
import psycopg
import pytest
from teleop_schema.migrations.reader import let_reader_read, make_reader

LONG = "joint_" * 20
KOREAN = "관절" * 30
NAMES = ["shoulder_pan.pos", '50% of "it"', "it's; DROP TABLE robot", LONG, LONG + "b", KOREAN]


async def record(database, names=NAMES, frames=10) -> int:
    """A session whose values say where they belong: 10 * joint + frame; actions are negative."""
    await database.connection.execute("INSERT INTO robot VALUES ('robot_A', 'so101') ON CONFLICT DO NOTHING")
    number = await database.value(
        """INSERT INTO teleop_session
               (stream_id, robot_id, robot_type, start_time, fps, state_names, action_names, delivery)
           VALUES (gen_random_uuid(), 'robot_A', 'so101', now(), 60, $1, $1, 'acknowledged') RETURNING id""",
        names,
    )
    for frame in range(frames):
        values = [10.0 * joint + frame for joint in range(len(names))]
        await database.connection.execute(
            "INSERT INTO teleop_frame VALUES ($1, $2, to_timestamp($2::bigint), $3, $4)",
            *(number, frame, values, [-value for value in values]),
        )
    return number


async def view_of(database, number: int) -> list[dict]:
    name = await database.value("SELECT make_session_view($1)", number)
    return await database.fetch(f"SELECT * FROM {name} ORDER BY frame_index")


async def test_each_joint_has_a_column(database):
    """Under the names of CSV, whatever is in them; those that are too long for PostgreSQL are cut."""
    number = await record(database)
    rows = await view_of(database, number)
    cut = [
        f"observation.{LONG}"[:58] + "~4",
        f"observation.{LONG}"[:58] + "~5",
        "observation." + KOREAN[:15] + "~6",
    ]
    observed = [*(f"observation.{name}" for name in NAMES[:3]), *cut]
    acted = [f"action.{name}" for name in NAMES[:3]]
    columns = [*rows[0]]
    assert columns[:4] == ["session_id", "frame_index", "timestamp", "episode_index"]
    assert columns[4:13] == observed + acted
    assert columns[-1] == "observation_age_us"
    for row in rows:
        values = [10.0 * joint + row["frame_index"] for joint in range(len(NAMES))]
        assert [row[name] for name in columns[4:10]] == values
        assert [row[name] for name in columns[10:16]] == [-value for value in values]


async def test_frames_know_their_episode(database):
    """Not those between episodes or in a pause; an episode that was empty or has not ended is no trouble."""
    number = await record(database, frames=12)
    await database.connection.executemany(
        "INSERT INTO episode (session_id, episode_index, start_frame, end_frame) VALUES ($1, $2, $3, $4)",
        [(number, 0, 1, 4), (number, 1, 5, 5), (number, 2, 5, 9), (number, 3, 10, None)],
    )
    await database.connection.execute("INSERT INTO episode_pause VALUES ($1, 6, 8, 2)", number)
    told = [row["episode_index"] for row in await view_of(database, number)]
    assert told == [None, 0, 0, 0, None, 2, None, None, 2, None, 3, 3]


async def test_frames_of_other_sessions_are_not_in_it(database):
    """Each has a view of its own."""
    first, second = await record(database, frames=3), await record(database, ["gripper.pos"], frames=5)
    assert {row["session_id"] for row in await view_of(database, first)} == {first}
    assert [row["observation.gripper.pos"] for row in await view_of(database, second)] == [0, 1, 2, 3, 4]


async def test_a_session_without_joints_has_a_view(database):
    """As one of a camera alone."""
    number = await record(database, [], frames=2)
    assert [*(await view_of(database, number))[0]][-1] == "observation_age_us"


async def test_the_reader_makes_it_once(database, database_url):
    """Many at the same moment, too; in a transaction that only reads, it is found."""
    number = await record(database)
    with psycopg.connect(database_url) as connection:
        make_reader(connection)
        let_reader_read(connection)
    url = database_url.replace("//teleop@", "//reader@")

    async def make() -> str:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT make_session_view($1)", number)
        finally:
            await connection.close()

    assert {*await asyncio.gather(*(make() for _ in range(8)))} == {f"session_{number}"}
    reader = await asyncpg.connect(url)
    try:
        async with reader.transaction(readonly=True):
            name = await reader.fetchval("SELECT make_session_view($1)", number)
            assert await reader.fetchval(f"SELECT count(*) FROM {name}") == 10
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(f"DROP VIEW {name}")
    finally:
        await reader.close()


async def test_a_view_made_before_the_role_can_be_read_by_it(database, database_url):
    """As where the role was added later."""
    number = await record(database)
    await view_of(database, number)
    with psycopg.connect(database_url) as connection:
        make_reader(connection)
        let_reader_read(connection)
    assert await database.value(f"SELECT has_table_privilege('reader', 'session_{number}', 'SELECT')")


async def test_a_session_that_is_not_there_is_named(database):
    """Or whose frames are elsewhere."""
    with pytest.raises(asyncpg.NoDataFoundError, match="session 77 does not exist"):
        await database.value("SELECT make_session_view(77)")
    number = await record(database)
    await database.connection.execute(
        """INSERT INTO session_archive (session_id, next_frame_index, frames, frames_sha256, frames_bytes,
                                        about_sha256, account, dropped_at)
           VALUES ($1, 10, 10, '', 0, '', '{}', now())""",
        number,
    )
    with pytest.raises(
        asyncpg.NoDataFoundError, match=f"frames of session {number} are in the archive"
    ) as told:
        await database.value("SELECT make_session_view($1)", number)
    assert told.value.hint == (
        f"bring them back: python -m teleop_telemetry.archive restore --session {number}"
    )
