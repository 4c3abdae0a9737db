"""What a store remembers of sessions, and what a new database makes of it."""

from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.postgres.pool import open_pool
from teleop_runtime.store import open_store
from teleop_schema.errors import StorageUnavailable
from teleop_schema.messages import End, Ended, Event
from teleop_schema.session import Camera
from teleop_telemetry.app import create_app
from teleop_telemetry.archive import adopt, archive_address
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.tables.session_notes import FOLDER, note_all_sessions
from teleop_telemetry.tables.session_table import SessionTable
from teleop_testing.backends.serving import serving
from teleop_testing.datasets.recorded import record_session
from teleop_testing.robots.robot import TestRobot, batch, description
from teleop_testing.waiting import PATIENCE_S

SESSION = description(cameras={"front": Camera(48, 64), "top": Camera(48, 64)}, task="pick", host={"n": "ä"})
SECRET = "of-the-robot-that-recorded-it"
NO_VIDEO = Event(kind="no_video", frame_index=0, camera="top", note="it is grayscale")


@pytest.fixture
def store(tmp_path):
    return open_store(archive_address(str(tmp_path)))


@pytest_asyncio.fixture
async def pool(database_url):
    async with open_pool(database_url, max_size=3) as pool:
        yield pool


@pytest_asyncio.fixture
async def http(database_url, tmp_path):
    """Client of a service with a store."""
    settings = TelemetrySettings(database_url=database_url, store_url=str(tmp_path), _env_file=None)
    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        yield http


@pytest.fixture
def lose(database):
    """The database is another one, that knows nothing."""

    async def lose() -> None:
        await database.connection.execute("TRUNCATE robot, teleop_session, teleop_frame CASCADE")
        await database.connection.execute("UPDATE installation SET id = gen_random_uuid()")

    return lose


async def record(http: httpx.AsyncClient, stream: UUID) -> int:
    """The number of a session of 40 frames, sent from the first that the server lacks."""
    address = http.base_url.netloc.decode()
    async with TestRobot.connected(
        address, "robot_A", stream=stream, session=SESSION, secret=SECRET
    ) as robot:
        assert robot.welcome.next == 0
        await robot.send(batch(0, 40, events=(NO_VIDEO,)))
        await robot.acked(40)
        await robot.say(End(40))
        await robot.hear(Ended)
        return robot.welcome.session_id


async def test_a_lost_session_is_known_by_name(http, pool, store, database, lose):
    """Its frames are gone and its ledger says so; if its robot has them, it goes on under the same number."""
    stream = uuid4()
    number = await record(http, stream)
    before = (await http.get(f"/sessions/{number}")).json()
    complete = (await http.get(f"/sessions/{number}/ledger")).json()
    secret_sha256 = await database.value("SELECT secret_sha256 FROM teleop_session")
    assert secret_sha256
    await lose()
    told = await adopt(pool, store)
    assert (told.archived, told.named, (await adopt(pool, store)).named) == (0, 1, 0)
    assert await database.value("SELECT secret_sha256 FROM teleop_session") == secret_sha256
    found = (await http.get(f"/sessions/{number}")).json()
    assert {key for key in before if found[key] != before[key]} == {"found_at", "status"}
    ledger = (await http.get(f"/sessions/{number}/ledger")).json()
    assert (ledger["logged"], ledger["committed"], ledger["unaccounted"]) == (40, 0, 40)
    assert not ledger["complete"]
    assert [camera["camera_key"] for camera in ledger["cameras"]] == ["front"]
    assert ledger["found_at"] == found["found_at"] is not None
    assert await record(http, stream) == number
    ledger = (await http.get(f"/sessions/{number}/ledger")).json()
    assert ledger | {"found_at": None} == complete


async def test_lost_frames_can_be_given_up(http, pool, store, lose):
    """Then they are named as missing, with who said so."""
    number = await record(http, uuid4())
    await lose()
    await adopt(pool, store)
    ledger = (await http.post(f"/sessions/{number}/give-up-missing?by=Kim")).json()
    assert (ledger["unaccounted"], ledger["missing"], ledger["complete"]) == (0, 40, False)
    [gap] = ledger["gaps"]
    assert (gap["first_frame"], gap["end_frame"], "Kim" in gap["reason"]) == (0, 40, True)


async def test_it_is_noted_before_the_robot_is_welcome(pool, store, database, monkeypatch):
    """A session that the store does not know of is none."""

    async def refuse(name: str, content: bytes) -> None:
        if name.startswith(FOLDER):
            raise OSError("no room")

    monkeypatch.setattr(store, "set_note", refuse)
    table = SessionTable(pool, 3, store=store)
    with pytest.raises(StorageUnavailable, match="no room"):
        await table.open(uuid4(), "robot_A", description(), delivery="acknowledged")
    assert await database.value("SELECT count(*) FROM teleop_session") == 0


async def test_sessions_of_an_older_release_are_noted(pool, store, database_url, lose):
    """And of two numbers that one stream was given, the last counts."""
    numbers = [record_session(database_url, 3) for _ in range(2)]
    await note_all_sessions(pool, store)
    stream = await pool.fetchval("SELECT stream_id FROM teleop_session WHERE id = $1", numbers[0])
    note = await store.note(f"{FOLDER}/{numbers[0]}")
    await store.set_note(f"{FOLDER}/10", note.replace(b'"id": %d' % numbers[0], b'"id": 10'))
    await lose()
    assert (await adopt(pool, store)).named == 2
    assert await pool.fetchval("SELECT id FROM teleop_session WHERE stream_id = $1", stream) == 10
