"""What the store has lost of archived sessions is said, asked for again, and found again."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.store import open_store
from teleop_schema.errors import ArchiveLost
from teleop_schema.messages import Batch, End, Ended, Event
from teleop_telemetry import metrics
from teleop_telemetry.app import create_app
from teleop_telemetry.archive import LostFrames, Retention, SessionFiles, adopt, archive_address
from teleop_telemetry.archive.restoring import restore_session
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.storage import look
from teleop_testing.backends.serving import serving
from teleop_testing.datasets.recorded import NEXT_PARTITION, OLD, record_session
from teleop_testing.robots.robot import TestRobot, batch
from teleop_testing.waiting import PATIENCE_S

FRAMES = 40
EPISODE = (
    Event(kind="episode_start", frame_index=0, episode_index=0, task="pick"),
    Event(kind="episode_end", frame_index=30, episode_index=0, outcome="success"),
)
SIZE_OF = "SELECT frames_sha256 FROM session_archive WHERE session_id = $1"


@pytest.fixture
def files(database_url, tmp_path):
    return SessionFiles(open_store(archive_address(str(tmp_path / "store"))), database_url)


@pytest.fixture
def retention(pool, files):
    return Retention(pool, files, timedelta(days=30))


@pytest.fixture
def lost(pool, files):
    return LostFrames(pool, files)


@pytest_asyncio.fixture
async def stored(database_url, tmp_path):
    """Address of a service with a store."""
    settings = TelemetrySettings(database_url=database_url, store_url=str(tmp_path / "store"), _env_file=None)
    async with serving(create_app(settings)) as address:
        yield address


@pytest_asyncio.fixture
async def client(stored):
    async with httpx.AsyncClient(base_url=f"http://{stored}", timeout=PATIENCE_S) as client:
        yield client


class Archived:
    """A session that its robot has sent, and that has left the database."""

    def __init__(self, address: str, client: httpx.AsyncClient, folder: Path) -> None:
        self.stream = uuid4()
        self.number = 0
        self._address, self._client, self._folder = address, client, folder

    async def send(self, *, first: int, gap: str | None = None) -> None:
        """Send it to the end, from the first frame that the server says it lacks."""
        async with TestRobot.connected(self._address, "robot_A", stream=self.stream) as robot:
            assert robot.welcome.next == first
            if gap is None:
                await robot.send(batch(0, FRAMES, events=EPISODE))
            else:
                await robot.send(Batch(first=0, count=FRAMES, gap=gap))
            await robot.acked(FRAMES)
            await robot.say(End(FRAMES))
            await robot.hear(Ended)
            self.number = robot.welcome.session_id

    async def ask(self, what: str = "/ledger") -> dict[str, Any]:
        return (await self._client.get(f"/sessions/{self.number}{what}")).json()

    def object(self) -> Path:
        """The file of its frames, by which the store knows it."""
        named = self._folder / "robot_A" / "sessions" / str(self.number) / "frames.parquet"
        inode = named.stat().st_ino
        (found,) = [path for path in (self._folder / ".objects").glob("*/*/*") if path.stat().st_ino == inode]
        return found


@pytest_asyncio.fixture
async def archived(stored, client, database, database_url, retention, tmp_path):
    session = Archived(stored, client, tmp_path / "store" / ".archive")
    await session.send(first=0)
    await database.connection.execute(OLD)
    await database.connection.execute(NEXT_PARTITION)
    record_session(database_url, 5)
    # Kept, and no longer true once the frames are lost.
    assert (await session.ask())["complete"]
    assert [each.sessions for each in await retention.once()] == [1]
    assert (await session.ask())["complete"]
    return session


async def test_after_a_lost_store_archived_sessions_say_so(archived, pool, client, database, tmp_path):
    """`adopt` counts them, and their ledgers account for no frame."""
    folder = tmp_path / "store"
    folder.rename(tmp_path / "lost")
    told = await adopt(pool, open_store(archive_address(str(folder))))
    assert told.lost == 1
    assert "the archived samples of 1 session are missing" in str(told)
    ledger = await archived.ask()
    assert (ledger["logged"], ledger["committed"], ledger["unaccounted"]) == (FRAMES, 0, FRAMES)
    assert (ledger["complete"], ledger["archive_damage"]) == (False, "it is missing")
    assert (await archived.ask(""))["archive_damage"] == "it is missing"
    await look(pool)
    assert metrics.SESSIONS_LOST._value.get() == 1


async def test_its_robot_sends_it_again(archived, pool, lost, retention, client, database, files):
    """It goes on under its number, with what people said of it, and is archived once more."""
    complete = await archived.ask()
    await client.patch(f"/sessions/{archived.number}/episodes/0", json={"outcome": "discarded"})
    await files.store.remove(await database.value(SIZE_OF, archived.number))
    assert await lost.find() == [archived.number]
    await archived.send(first=0)
    ledger = await archived.ask()
    assert ledger["found_at"] is not None
    assert ledger | {"found_at": None} == complete | {"archived_at": None}
    (episode,) = (await archived.ask(""))["episode_list"]
    assert (episode["outcome"], episode["end_frame"]) == ("discarded", 30)
    assert await lost.find() == []
    await database.connection.execute(OLD)
    assert [each.frames for each in await retention.once()] == [FRAMES]
    assert (await archived.ask())["complete"]


async def test_what_its_robot_has_lost_too_is_a_gap(archived, lost, database, files):
    """Then the account is whole again, and says what is missing."""
    await files.store.remove(await database.value(SIZE_OF, archived.number))
    await lost.find()
    await archived.send(first=0, gap="it is gone")
    ledger = await archived.ask()
    assert (ledger["missing"], ledger["unaccounted"], ledger["complete"]) == (FRAMES, 0, False)


async def test_lost_frames_can_be_given_up(archived, lost, client, database, files):
    """As those of a session whose database was lost; those of a whole archive can't."""
    address = f"/sessions/{archived.number}/give-up-missing"
    assert (await client.post(address)).json()["code"] == "session_archived"
    await files.store.remove(await database.value(SIZE_OF, archived.number))
    await lost.find()
    ledger = (await client.post(address)).json()
    assert (ledger["missing"], ledger["unaccounted"], ledger["committed"]) == (FRAMES, 0, 0)
    assert (await archived.ask(""))["status"] == "complete"
    assert await lost.find() == []


async def test_what_is_back_counts_again(archived, lost, client):
    """Whether it was missing, cut, or had other bytes: the mark goes with the damage."""
    path, complete = archived.object(), await archived.ask()
    content = path.read_bytes()
    path.chmod(0o600)
    for damaged, told in (
        (content[:-1], f"it has {len(content) - 1} bytes, not {len(content)}"),
        (content[:100] + bytes([content[100] ^ 1]) + content[101:], "its bytes are not those"),
    ):
        path.write_bytes(damaged)
        answer = await client.get(f"/sessions/{archived.number}/frames")
        assert answer.status_code >= 400
        assert (await archived.ask())["archive_damage"].startswith(told)
        assert await lost.find() == [archived.number]
        path.write_bytes(content)
        assert await lost.find() == []
        assert await archived.ask() == complete
    path.write_bytes(damaged)
    await client.get(f"/sessions/{archived.number}/frames")
    path.write_bytes(content)
    # Whoever reads it whole finds it whole.
    assert (await client.get(f"/sessions/{archived.number}/frames")).status_code == 200
    assert await archived.ask() == complete


async def test_a_robot_waits_if_the_copy_has_come_back(archived, lost, pool, files):
    """Between the return of the files and the next look, nothing is recorded in place of the copy."""
    path = archived.object()
    away = path.rename(path.with_suffix(".away"))
    assert await lost.find() == [archived.number]
    away.rename(path)
    with pytest.raises(Exception, match=r"archived|4410"):
        await archived.send(first=0)
    assert await restore_session(pool, files, archived.number) == FRAMES
    assert (await archived.ask())["complete"]


async def test_a_disk_that_is_not_mounted_has_lost_nothing(archived, lost, client, stored, tmp_path):
    """Nobody can say what is on it."""
    complete = await archived.ask()
    folder = tmp_path / "store" / ".archive"
    away = folder.rename(tmp_path / "unmounted")
    with pytest.raises(CannotStart, match="Is its disk mounted"):
        await lost.find()
    answer = await client.get(f"/sessions/{archived.number}/frames")
    assert (answer.status_code, answer.json()["code"]) == (404, "archive_lost")
    assert f"frames of session {archived.number} can't be read: it is missing" in answer.json()["detail"]
    assert answer.json()["hint"].startswith("put the archive's files back")
    assert await archived.ask() == complete
    shutil.rmtree(folder, ignore_errors=True)
    away.rename(folder)
    assert await lost.find() == []


async def test_a_restore_that_fails_marks_it(archived, pool, files):
    """Whoever meets the damage says so to all others."""
    path = archived.object()
    path.chmod(0o600)
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(ArchiveLost, match="its bytes are not those"):
        await restore_session(pool, files, archived.number)
    assert (await archived.ask())["archive_damage"] == "its bytes are not those that were archived"


async def test_deleted_sessions_are_not_counted(archived, lost, client, database, files):
    """Nobody misses them."""
    await client.delete(f"/sessions/{archived.number}")
    await files.store.remove(await database.value(SIZE_OF, archived.number))
    assert await lost.find() == []


async def test_an_archive_on_s3_is_looked_at_too(recorded, pool, database_url, database, s3_folder):
    """The same look, by the listing of the bucket."""
    files = SessionFiles(open_store(archive_address(s3_folder.address)), database_url)
    await Retention(pool, files, timedelta(days=30)).once()
    lost = LostFrames(pool, files)
    assert await lost.find() == []
    sha256 = await database.value(SIZE_OF, recorded[1])
    content = b"".join([part async for part in files.store.read(sha256)])
    await files.store.remove(sha256)
    assert await lost.find() == [recorded[1]]
    upload = uuid4()
    await files.store.begin(upload)

    async def parts():
        yield content

    await files.store.append(upload, 0, parts(), limit=len(content))
    await files.store.finish(upload, sha256=sha256, size_bytes=len(content))
    assert await lost.find() == []
