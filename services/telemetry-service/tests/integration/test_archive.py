"""Old sessions leave the database for the archive, and come back from it exactly as they were."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.store import open_store
from teleop_schema.errors import ArchiveLost, NotFound
from teleop_telemetry import metrics
from teleop_telemetry.app import create_app
from teleop_telemetry.archive import Retention, SessionFiles, adopt, archive_address
from teleop_telemetry.archive.archive_table import StillInUse, drop_partition, try_lock
from teleop_telemetry.archive.restoring import restore_partition, restore_session
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.storage import look
from teleop_testing.backends.serving import serving
from teleop_testing.datasets.recorded import NAMES, NEXT_PARTITION, OLD
from teleop_testing.robots.robot import TestRobot, batch, description
from teleop_testing.waiting import PATIENCE_S

AGE = timedelta(days=30)
CONTENT = """
SELECT md5(string_agg(f::text, '|' ORDER BY session_id, frame_index))
  FROM teleop_frame f WHERE session_id < 1000
"""
PARTITIONS = "SELECT relid::text FROM pg_partition_tree('teleop_frame') WHERE isleaf ORDER BY 1"


@pytest.fixture
def files(database_url, tmp_path):
    return SessionFiles(open_store(archive_address(str(tmp_path))), database_url)


@pytest.fixture
def retention(pool, files):
    return Retention(pool, files, AGE)


async def partitions(database) -> list[str]:
    return [row["relid"] for row in await database.fetch(PARTITIONS)]


async def test_an_old_partition_leaves_and_comes_back_exactly(
    recorded, retention, pool, files, database, tmp_path
):
    """What is restored is what was there, to the last bit, time and null."""
    before = await database.value(CONTENT)
    (dropped,) = await retention.once()
    assert (dropped.part, dropped.sessions, dropped.frames) == (0, 4, 25_000 + 489 + 300)
    assert "teleop_frame_0" not in await partitions(database)
    assert await database.value("SELECT count(*) FROM teleop_frame") == 40
    assert await retention.once() == []

    assert await restore_session(pool, files, recorded[1]) == 489
    assert await restore_partition(pool, files, 0) == 25_300
    assert await database.value(CONTENT) == before
    with pytest.raises(NotFound):
        await restore_session(pool, files, recorded[1])
    # They were brought back because somebody needs them.
    assert await retention.once() == []
    await database.connection.execute("UPDATE session_archive SET restored_at = now() - interval '31 days'")
    (again,) = await retention.once()
    assert again.frames == dropped.frames


async def test_another_databases_archive_stays_as_it_is(recorded, retention, database, tmp_path):
    """Nothing is written there, and nothing leaves this database."""
    await retention.once()
    owner = tmp_path / ".archive" / ".owner"
    assert owner.read_text().strip() == await database.value("SELECT id::text FROM installation")
    before = sorted(tmp_path.rglob("*"))
    await database.connection.execute("UPDATE installation SET id = gen_random_uuid()")
    frames = await database.value("SELECT count(*) FROM teleop_frame")
    with pytest.raises(CannotStart, match=r"\.archive of the file store belong to another database"):
        await retention.once()
    assert (sorted(tmp_path.rglob("*")), await database.value("SELECT count(*) FROM teleop_frame")) == (
        before,
        frames,
    )


async def test_the_archive_can_be_read_without_the_database(recorded, retention, tmp_path):
    """Parquet holds the frames, and JSON beside it all else that is known of the session."""
    await retention.once()
    folder = tmp_path / ".archive" / "robot_A" / "sessions" / str(recorded[1])
    table = pq.read_table(folder / "frames.parquet")
    assert table.num_rows == 489
    assert table.column_names == [
        "frame_index",
        "timestamp",
        "state",
        "action",
        "extra",
        "observation_age_us",
        "columns.next.reward",
    ]
    reward = table["columns.next.reward"]
    assert reward.type == pa.float64()
    assert reward.to_pylist() == [
        index / 10 if index % 5 == 2 else None for index in table["frame_index"].to_pylist()
    ]
    told = json.loads((folder / "session.json").read_text())
    assert told["session"]["state_names"] == list(NAMES)
    assert [gap["reason"] for gap in told["gaps"]] == ["spool_full", "refused"]
    assert told["marks"][0]["note"] == 'look at "this"'
    assert told["frames"]["rows"] == told["account"]["committed"] == 489


async def test_archived_sessions_answer_as_before(recorded, retention, database_url, tmp_path):
    """Ledger and frames of an archived session are those of before, from the archive."""
    settings = TelemetrySettings(database_url=database_url, store_url=str(tmp_path), _env_file=None)

    async def answers(http: httpx.AsyncClient) -> list:
        return [
            (await http.get(f"/sessions/{session}/{what}")).json()
            for session in recorded
            for what in ("ledger", "frames?from=5&to=30", "frames?max_points=10", "frames?from=19990")
        ]

    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        before = await answers(http)
        await retention.once()
        after = await answers(http)
        view = (await http.get(f"/sessions/{recorded[0]}")).json()
    assert view["archived_at"] is not None
    for told in after[::4]:
        assert told.pop("archived_at") == view["archived_at"]
    for told in before[::4]:
        assert told.pop("archived_at") is None
    assert after == before
    assert before[0]["complete"]


async def test_without_the_store_the_address_is_told(recorded, retention, http):
    """A service that has no way to the archive says where the frames are."""
    await retention.once()
    answer = await http.get(f"/sessions/{recorded[0]}/frames")
    assert (answer.status_code, answer.json()["code"]) == (410, "session_archived")
    assert f"robot_B/sessions/{recorded[0]}/frames.parquet" in answer.json()["detail"]
    assert (await http.get(f"/sessions/{recorded[0]}/ledger")).json()["committed"] == 25_000


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE teleop_session SET last_commit_at = now() - interval '29 days' WHERE id = $1",
        "UPDATE teleop_session SET status = 'recording' WHERE id = $1",
        "UPDATE teleop_session SET next_frame_index = next_frame_index + 1 WHERE id = $1",
        "DELETE FROM teleop_frame WHERE session_id = $1 AND frame_index = 5",
        "INSERT INTO teleop_frame VALUES ($1, 400000, now(), '{1,2,3}', '{1,2,3}')",
        "DELETE FROM frame_gap WHERE session_id = $1",
    ],
)
async def test_what_is_young_recording_or_not_accounted_for_stays(recorded, retention, database, change):
    """One such session keeps its whole partition where it is."""
    await database.connection.execute(change, recorded[1])
    before = await database.value(CONTENT)
    assert await retention.once() == []
    assert await database.value(CONTENT) == before


async def test_the_newest_partition_stays(recorded, retention, database):
    """Sessions may still be added to it, however old those are that it has."""
    await database.connection.execute(OLD)
    assert [each.part for each in await retention.once()] == [0]
    assert "teleop_frame_1" in await partitions(database)


async def test_the_database_itself_refuses_to_drop_what_has_no_copy(recorded, database):
    """Whatever a service believes, frames without a copy of the very same state are not dropped."""
    with pytest.raises(StillInUse, match="not every session"):
        await drop_partition(database.connection, 0)
    assert "teleop_frame_0" in await partitions(database)


async def test_a_frame_that_came_after_the_copy_keeps_the_partition(recorded, retention, database, files):
    """A copy counts for the state that it was made of, no other."""
    retention._files = Interfering(
        files,
        database,
        "INSERT INTO teleop_frame VALUES ($1, 300, now(), '{1}', '{}')",
        "UPDATE teleop_session SET next_frame_index = 301 WHERE id = $1",
    )
    assert await retention.once() == []
    assert await database.value("SELECT count(*) FROM teleop_frame WHERE session_id = $1", recorded[3]) == 301


class Interfering:
    """Session files behind whose back a frame is added once the last session is copied."""

    def __init__(self, files, database, *changes) -> None:
        self.files, self.database, self.changes = files, database, changes

    async def claim(self, pool):
        await self.files.claim(pool)

    async def copy(self, session):
        copied = await self.files.copy(session)
        if session.next_frame_index == 300:
            for change in self.changes:
                await self.database.connection.execute(change, session.id)
        return copied

    async def is_kept(self, copied):
        return await self.files.is_kept(copied)


async def test_a_copy_that_differs_is_found(recorded, retention, database, monkeypatch):
    """The copy is compared with the database before anything is dropped."""
    from teleop_telemetry.archive import session_files

    def damaged(schema, tables):
        return encode(schema, (table.slice(1) for table in tables))

    encode = session_files.encode_parquet
    monkeypatch.setattr(session_files, "encode_parquet", damaged)
    assert await retention.once() == []
    assert await database.value("SELECT count(*) FROM session_archive") == 0


async def test_a_copy_that_the_store_has_lost_keeps_the_partition(
    recorded, retention, database, files, tmp_path
):
    """What was copied before is looked for again before the frames go, and copied again the next time."""
    locker = await asyncpg.connect(database.url)
    async with locker.transaction():
        await locker.execute("LOCK TABLE teleop_frame IN ACCESS SHARE MODE")
        assert await retention.once() == []
    await locker.close()
    lost = await database.value(
        "SELECT frames_sha256 FROM session_archive WHERE session_id = $1", recorded[0]
    )
    await files.store.remove(lost)
    assert await retention.once() == []
    assert "teleop_frame_0" in await partitions(database)
    assert [each.part for each in await retention.once()] == [0]
    assert await files.store.size(lost) is not None


async def test_a_reader_delays_the_drop_and_robots_go_on(recorded, retention, database, service):
    """While somebody reads, the partition stays, and whoever records is held up for seconds at most."""
    reader = await asyncpg.connect(database.url)
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM teleop_frame")
        dropping = asyncio.create_task(retention.once())
        async with TestRobot.connected(service, "robot_A", session=description()) as robot:
            for first in range(0, 300, 10):
                await robot.send(batch(first, 10))
            await robot.acked(300)
        assert await dropping == []
    await reader.close()
    assert [each.part for each in await retention.once()] == [0]


async def test_one_replica_at_a_time(recorded, retention, database):
    """A replica that finds another one at it leaves it alone."""
    assert await try_lock(database.connection)
    assert await retention.once() is None


async def test_a_damaged_copy_is_not_restored(recorded, retention, pool, files, database, tmp_path):
    """Damage is named, and the session stays as it is."""
    await retention.once()
    (path,) = tmp_path.rglob(f"sessions/{recorded[0]}/frames.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    with pytest.raises(ArchiveLost, match="its bytes are not those"):
        await restore_session(pool, files, recorded[0])
    assert await database.frame_indexes(recorded[0]) == []


async def test_a_robot_that_comes_back_to_an_archived_session_waits_until_it_is_restored(
    service, database, retention, pool, files
):
    """Its late frames are refused by name, not lost, and stored once the session is back."""
    async with TestRobot.connected(service, "robot_A") as robot:
        await robot.send(batch(0, 50))
        await robot.acked(50)
        stream, session_id = robot.stream, robot.welcome.session_id
    await database.connection.execute(OLD + ", status = 'interrupted'")
    await database.connection.execute(NEXT_PARTITION)
    async with TestRobot.connected(service, "robot_B"):
        assert [each.frames for each in await retention.once()] == [50]
    with pytest.raises(Exception, match=r"archived|4410"):
        async with TestRobot.connected(service, "robot_A", stream=stream) as robot:
            raise AssertionError("it was let in")
    await restore_session(pool, files, session_id)
    async with TestRobot.connected(service, "robot_A", stream=stream) as robot:
        assert robot.welcome.next == 50
        await robot.send(batch(50, 10))
        await robot.acked(60)
    assert await database.frame_indexes(session_id) == list(range(60))
    # Archived again, it takes the place of its former copy, of which nothing stays in the store.
    await database.connection.execute(OLD + ", status = 'interrupted'")
    await database.connection.execute("UPDATE session_archive SET restored_at = now() - interval '31 days'")
    assert [each.frames for each in await retention.once()] == [60]
    assert len([each async for each in files.store.list_objects()]) == 2


async def test_a_lost_database_leaves_archived_sessions(
    recorded, retention, pool, files, database, http, tmp_path
):
    """The new one knows them again: what they were called, their ledgers, episodes, marks, frames."""
    await retention.once()
    store = open_store(archive_address(str(tmp_path)))

    async def told() -> list[Any]:
        addresses = [f"/sessions/{id_}{what}" for id_ in recorded for what in ("", "/ledger")]
        answers = [(await http.get(address)).json() for address in addresses]
        for answer in answers:
            assert answer.pop("archived_at") is not None
        pauses = "SELECT * FROM episode_pause ORDER BY session_id, first_frame"
        return [*answers, *(tuple(row.values()) for row in await database.fetch(pauses))]

    before = await told()
    assert before[-2:] == [(recorded[0], 30, 60, 0), (recorded[0], 5_000, 5_001, 0)]
    await database.connection.execute("TRUNCATE robot, teleop_session CASCADE")
    await database.connection.execute("UPDATE installation SET id = gen_random_uuid()")
    assert (await adopt(pool, store)).archived == 4
    assert await told() == before
    assert (await adopt(pool, store)).archived == 0
    assert await restore_session(pool, files, recorded[1]) == 489
    await database.connection.execute("UPDATE installation SET id = gen_random_uuid()")
    with pytest.raises(CannotStart, match="already has an archive"):
        await adopt(pool, store)


async def test_the_commands(recorded, database, tmp_path):
    """A person can let partitions go, bring them back, and end what never ended."""

    def archive(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "teleop_telemetry.archive", *arguments],
            env={**os.environ, "DATABASE_URL": database.url, "STORE_URL": str(tmp_path)},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout + done.stderr

    await database.connection.execute(
        "UPDATE teleop_session SET status = 'recording' WHERE id = $1", recorded[3]
    )
    status, told = await asyncio.to_thread(archive, "run", "--days", "30")
    assert (status, "nothing is old enough to archive" in told) == (0, True)
    assert f"[{recorded[3]}]" in told
    owner = tmp_path / ".archive" / ".owner"
    ours = owner.read_text()
    owner.write_text(f"{uuid4()}\n")
    status, told = await asyncio.to_thread(archive, "run", "--days", "30")
    assert (status, "belong to another database" in told, "Traceback" in told) == (1, True, False)
    owner.write_text(ours)
    assert (await asyncio.to_thread(archive, "interrupt", "--session", str(recorded[3])))[0] == 0
    assert (await asyncio.to_thread(archive, "run", "--days", "30"))[1].startswith("partition 0: 4 sessions")
    status, told = await asyncio.to_thread(archive, "restore", "--session", str(recorded[0]))
    assert (status, told) == (0, "in the database again: 25000 frames\n")
    assert (await asyncio.to_thread(archive, "restore", "--session", "77"))[0] == 1


async def test_storage_is_told(recorded, pool, database):
    """/metrics has rows and bytes of the newest partitions, and of all together."""
    await database.connection.execute("ANALYZE teleop_frame")
    await look(pool)
    assert metrics.PARTITION_ROWS.labels(0)._value.get() == 25_789
    assert metrics.FRAME_ROWS._value.get() == 25_829
    assert metrics.FRAME_BYTES._value.get() > metrics.PARTITION_BYTES.labels(0)._value.get() > 25_789 * 50
    assert metrics.DATABASE_BYTES._value.get() > metrics.FRAME_BYTES._value.get()
