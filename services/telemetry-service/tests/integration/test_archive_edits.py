"""What people say of archived sessions outlives the database, too."""

import threading
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.store import open_store
from teleop_runtime.store.threads import in_thread
from teleop_telemetry.app import create_app
from teleop_telemetry.archive import (
    ArchiveEdits,
    LostFrames,
    Retention,
    SessionFiles,
    adopt,
    archive_address,
)
from teleop_telemetry.archive import edits as archive_edits
from teleop_telemetry.archive.installation import note_installation
from teleop_telemetry.archive.restoring import restore_session
from teleop_telemetry.reading.session_edits import SessionEdits
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.tables.views import SessionChange
from teleop_testing.backends.serving import serving
from teleop_testing.datasets.recorded import OLD
from teleop_testing.waiting import PATIENCE_S

UNNOTED = "SELECT count(*) FROM session_archive WHERE noted_edits <> edits"
COMPLETE = {"note": "n2", "tags": ["keep"], "operator": "kim"}


@pytest.fixture
def files(database_url, tmp_path):
    return SessionFiles(open_store(archive_address(str(tmp_path))), database_url)


@pytest.fixture
def edits(pool, files):
    return ArchiveEdits(pool, files)


@pytest.fixture
def retention(pool, files):
    return Retention(pool, files, timedelta(days=30))


@pytest_asyncio.fixture
async def client(database_url, tmp_path):
    """Client of a service with a store."""
    settings = TelemetrySettings(database_url=database_url, store_url=str(tmp_path), _env_file=None)
    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        yield client


@pytest.fixture
def lose(database, pool, files):
    """The database is lost, and a new one takes over the archive."""

    async def lose() -> None:
        await database.connection.execute("TRUNCATE robot, teleop_session, teleop_frame CASCADE")
        await database.connection.execute("UPDATE installation SET id = gen_random_uuid()")
        assert (await adopt(pool, files.store)).archived == 4

    return lose


@pytest.fixture
def objects(files):
    """How many files the archive has."""

    async def count() -> int:
        return len([each async for each in files.store.list_objects()])

    return count


async def episode(client, session: int) -> dict:
    return (await client.get(f"/sessions/{session}")).json()["episode_list"][0]


async def test_what_people_said_last_comes_back(recorded, retention, client, edits, objects, lose, database):
    """Labels, notes, tags and deletions of archived sessions are in the archive with the answer."""
    await retention.once()
    await edits.note_all()
    there = await objects()
    first, second = recorded[0], recorded[1]
    judged = {"outcome": "discarded", "reason": "wrong_task", "quality": 1, "tags": ["a"], "operator": "lee"}
    assert (await client.patch(f"/sessions/{first}/episodes/0", json=judged)).is_success
    assert (await client.patch(f"/sessions/{first}/episodes/0", json={"quality": 2})).is_success
    history = (await client.get(f"/sessions/{first}/episodes/0/history")).json()
    assert (await client.patch(f"/sessions/{first}", json=COMPLETE)).is_success
    changes = (await client.get(f"/sessions/{first}/history")).json()
    assert (await client.delete(f"/sessions/{second}")).is_success
    assert await database.value(UNNOTED) == 0
    assert await objects() == there
    before = (await client.get(f"/sessions/{first}")).json()
    await lose()
    assert await database.value(UNNOTED) == 0
    after = (await client.get(f"/sessions/{first}")).json()
    assert after | {"archived_at": None} == before | {"archived_at": None}
    back = await episode(client, first)
    assert (after["note"], after["operator"], back["outcome"]) == ("n2", "kim", "discarded")
    assert (back["reason"], back["quality"], back["revision"]) == ("wrong_task", 2, 2)
    assert (await client.get(f"/sessions/{first}/episodes/0/history")).json() == history
    assert (await client.get(f"/sessions/{first}/history")).json() == changes != []
    undone = (await client.post(f"/sessions/{first}/episodes/0/undo", json={"revision": 2})).json()
    assert (undone["quality"], undone["revision"]) == (1, 3)
    assert (await client.get(f"/sessions/{second}")).status_code == 404


async def test_a_store_that_is_away_makes_no_edit_fail(
    recorded, retention, client, edits, lose, database, tmp_path
):
    """The database has it, and the archive is told once it is back."""
    await retention.once()
    await edits.note_all()
    away = (tmp_path / ".archive").rename(tmp_path / "away")
    answer = await client.patch(f"/sessions/{recorded[0]}", json=COMPLETE)
    assert (answer.status_code, answer.json()["note"]) == (200, "n2")
    assert not list((tmp_path / ".archive").rglob("session.json"))
    assert await database.value(UNNOTED) == 1
    with pytest.raises(Exception, match="is its disk mounted"):
        await edits.note_all()
    away.rename(tmp_path / ".archive")
    await edits.note_all()
    assert await database.value(UNNOTED) == 0
    await lose()
    assert (await client.get(f"/sessions/{recorded[0]}")).json()["note"] == "n2"


async def test_a_store_that_hangs_holds_up_no_edit(
    recorded, retention, edits, pool, files, database, monkeypatch
):
    """Whoever changes something waits for a moment at most; the archive is told when the store goes on."""
    await retention.once()
    await edits.note_all()
    name, goes_on = files.store.name, threading.Event()

    async def hang(path: str, sha256: str) -> None:
        await in_thread(goes_on.wait)
        await name(path, sha256)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(files.store, "name", hang)
        meanwhile.setattr(archive_edits, "AT_ONCE_S", 0.1)
        change = SessionChange(note="n2")
        await SessionEdits(pool, edits.note_at_once).change_session(recorded[0], change, "kim")
    assert await database.value("SELECT note FROM teleop_session WHERE id = $1", recorded[0]) == "n2"
    assert await database.value(UNNOTED) == 1
    goes_on.set()
    await edits.note_all()
    assert await database.value(UNNOTED) == 0


async def test_a_change_while_the_archive_is_told_is_told_too(
    recorded, retention, client, edits, lose, files, database, monkeypatch
):
    """It counts as one that the archive does not have, whatever of it was written already."""
    await retention.once()
    await edits.note_all()
    change = "UPDATE teleop_session SET note = $2 WHERE id = $1"
    name = files.store.name

    async def change_meanwhile(path: str, sha256: str) -> None:
        await name(path, sha256)
        monkeypatch.setattr(files.store, "name", name)
        await database.connection.execute(change, recorded[0], "second")

    monkeypatch.setattr(files.store, "name", change_meanwhile)
    await database.connection.execute(change, recorded[0], "first")
    await edits.note_all()
    assert await database.value(UNNOTED) == 0
    await lose()
    assert (await client.get(f"/sessions/{recorded[0]}")).json()["note"] == "second"


async def test_what_was_said_before_this_release_is_told(recorded, retention, client, edits, lose, database):
    """Nobody counted changes then, so each archive is written once more."""
    await retention.once()
    await edits.note_all()
    await database.connection.execute("UPDATE teleop_session SET note = 'old' WHERE id = $1", recorded[0])
    await database.connection.execute("UPDATE session_archive SET edits = DEFAULT, noted_edits = DEFAULT")
    await edits.note_all()
    await lose()
    assert (await client.get(f"/sessions/{recorded[0]}")).json()["note"] == "old"


async def test_a_session_that_went_on_is_told_with_its_next_copy(
    recorded, retention, client, edits, pool, files, database
):
    """What the archive says of its frames is true of those that it has."""
    await retention.once()
    await edits.note_all()
    await restore_session(pool, files, recorded[3])
    go_on = "UPDATE teleop_session SET next_frame_index = 301 WHERE id = $1"
    await database.connection.execute(go_on, recorded[3])
    await database.connection.execute("INSERT INTO frame_gap VALUES ($1, 300, 301, 'late')", recorded[3])
    assert (await client.patch(f"/sessions/{recorded[3]}", json=COMPLETE)).is_success
    await edits.note_all()
    assert await database.value(UNNOTED) == 1
    await database.connection.execute(OLD)
    await database.connection.execute("UPDATE session_archive SET restored_at = now() - interval '31 days'")
    await retention.once()
    await edits.note_all()
    assert await database.value(UNNOTED) == 0


async def test_a_description_that_is_lost_is_written_again(recorded, retention, edits, pool, files, database):
    """The database knows all that it said."""
    await retention.once()
    await edits.note_all()
    about = await database.value(
        "SELECT about_sha256 FROM session_archive WHERE session_id = $1", recorded[0]
    )
    await files.store.remove(about)
    assert await LostFrames(pool, files).find() == []
    await edits.note_all()
    assert await files.store.size(about) is not None


async def test_the_same_on_s3(recorded, pool, database_url, database, s3_folder):
    """The name has the new content, and the old is gone."""
    files = SessionFiles(open_store(archive_address(s3_folder.address)), database_url)
    edits = ArchiveEdits(pool, files)
    await Retention(pool, files, timedelta(days=30)).once()
    await edits.note_all()
    there = len(s3_folder.object_keys())
    await database.connection.execute("UPDATE teleop_session SET note = 'x' WHERE id = $1", recorded[1])
    await edits.note_at_once(recorded[1])
    assert await database.value(UNNOTED) == 0
    assert len(s3_folder.object_keys()) == there
    (sha256,) = [
        sha256
        async for path, sha256 in files.store.list_names()
        if path == f"robot_A/sessions/{recorded[1]}/session.json"
    ]
    assert b'"x"' in b"".join([part async for part in files.store.read(sha256)])


async def test_reasons_of_ones_own_come_back(recorded, retention, client, lose, pool, files, database):
    """What was taken out stays out, and what a new database begins with does not come in between."""
    await retention.once()
    mine = {"outcome": "failure", "meaning": "The cable was in the way", "restorable": False}
    await client.put("/outcome-reasons/cable", json=mine)
    await client.delete("/outcome-reasons/dropped")
    reasons = (await client.get("/outcome-reasons")).json()
    await note_installation(pool, files.store)
    assert await database.value("SELECT edits - noted_edits FROM installation") == 0
    await database.connection.execute("TRUNCATE outcome_reason")
    await database.connection.execute(
        "INSERT INTO outcome_reason VALUES ('dropped', 'failure', 'as at first', true)"
    )
    await lose()
    assert (await client.get("/outcome-reasons")).json() == reasons
    await client.delete("/outcome-reasons/cable")
    await adopt(pool, files.store)
    assert len((await client.get("/outcome-reasons")).json()) == len(reasons) - 1


async def test_one_that_cannot_be_written_holds_up_no_other(
    recorded, retention, client, edits, database, monkeypatch
):
    await retention.once()
    await edits.note_all()
    changed = recorded[:3]
    await database.connection.execute("UPDATE teleop_session SET note = 'n' WHERE id = ANY($1)", changed)
    keep_about = SessionFiles.keep_about

    async def broken(self, robot_id, about, account, copied):
        if copied.session_id == changed[0]:
            raise OSError("its folder can't be written")
        return await keep_about(self, robot_id, about, account, copied)

    with monkeypatch.context() as broke:
        broke.setattr(SessionFiles, "keep_about", broken)
        with pytest.raises(OSError, match="its folder"):
            await edits.note_all()
    assert await database.value(UNNOTED) == 1
    await edits.note_all()
    assert await database.value(UNNOTED) == 0
