"""Erasing sessions: who asks, what goes, what is told, and that nothing comes back."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from teleop_runtime.postgres.erasing import Erasing
from teleop_runtime.store import open_store
from teleop_schema.errors import SessionErased
from teleop_schema.messages import ErrorMessage, Hello
from teleop_telemetry.archive import Retention, SessionFiles, adopt, archive_address
from teleop_telemetry.archive.tombstones import note_erasures, read_erasures
from teleop_telemetry.erasing.share import SessionEraser
from teleop_telemetry.tables.session_notes import note_all_sessions
from teleop_telemetry.tables.session_table import SessionTable
from teleop_testing.datasets.dying_store import Died, DyingStore
from teleop_testing.datasets.erased import ask_session, share_of
from teleop_testing.datasets.recorded import record_session
from teleop_testing.robots.robot import TestRobot, batch, description, dial
from teleop_testing.waiting import PATIENCE_S, until

SERVICE = "telemetry-service"
OTHERS_DONE = "UPDATE erasure_share SET done_at = now() WHERE service <> 'telemetry-service'"
TABLES = (
    "teleop_frame", "frame_gap", "refused_frames", "episode", "episode_pause", "session_mark",
    "session_column", "session_account", "session_archive", "episode_change", "session_change",
    "episode_look", "episode_flag",
)  # fmt: skip
JUDGED = """
INSERT INTO episode_change (session_id, episode_index, revision, changed_by, before, after)
VALUES ($1, 0, 1, 'kim', '{"quality": null}', '{"quality": 2}')
"""
RENAMED = """
INSERT INTO session_change (session_id, revision, changed_by, before, after)
VALUES ($1, 1, 'kim', '{"operator": null}', '{"operator": "lee"}')
"""


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Tests do not wait as long as services do."""
    monkeypatch.setattr("teleop_telemetry.app.ERASE_EVERY_S", 0.05)


@pytest.fixture
def store(tmp_path):
    return open_store(archive_address(str(tmp_path)))


def erasing(pool, store) -> Erasing:
    return Erasing(pool, SERVICE, SessionEraser(pool, store).erase)


async def rows_of(database, session: int) -> dict[str, int]:
    """Rows with the session in every table that has any."""
    counted = {
        table: await database.value(f"SELECT count(*) FROM {table} WHERE session_id = $1", session)
        for table in TABLES
    }
    counted["teleop_session"] = await database.value(
        "SELECT count(*) FROM teleop_session WHERE id = $1", session
    )
    return {table: count for table, count in counted.items() if count}


async def test_asking_hides_it_and_says_how_far_it_is(http, database, recorded):
    """Answered with an address; the others' shares come first, and the same again is the same erasure."""
    asked = await http.post("/erasures", json={"session_id": recorded[1]})
    assert asked.status_code == 202
    erasure = asked.json()
    assert asked.headers["location"].endswith(f"/erasures/{erasure['id']}")
    assert (erasure["session_id"], erasure["robot_id"], erasure["status"]) == (
        recorded[1],
        "robot_A",
        "erasing",
    )
    assert {each["service"] for each in erasure["services"]} == {
        "export-service",
        "telemetry-service",
        "video-ingest-service",
    }
    assert any("make backup" in copy for copy in erasure["not_reached"])
    assert (await http.get(f"/sessions/{recorded[1]}")).status_code == 410
    assert await database.frame_indexes(recorded[1])
    again = await http.post("/erasures", json={"session_id": recorded[1]})
    assert again.json()["id"] == erasure["id"]
    await database.connection.execute(OTHERS_DONE)

    async def erased():
        told = (await http.get(f"/erasures/{erasure['id']}")).json()
        return told if told["status"] == "erased" else None

    told = await until(erased)
    assert told["erased_at"] is not None
    (mine,) = [each for each in told["services"] if each["service"] == SERVICE]
    assert mine["removed"] == {"frames": 489, "marks": 1, "gaps": 2, "columns": 1, "sessions": 1}
    assert await rows_of(database, recorded[1]) == {}
    assert await rows_of(database, recorded[0]) != {}
    again = await http.post("/erasures", json={"session_id": recorded[1]})
    assert (again.status_code, again.json()["id"]) == (202, erasure["id"])
    page = (await http.get("/erasures")).json()
    assert [each["id"] for each in page["erasures"]] == [erasure["id"]]
    audited = await database.fetch("SELECT action, subject FROM audit ORDER BY id")
    assert audited[0] == {"action": "erase", "subject": f"session {recorded[1]} of robot_A"}


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({}, 422, "robot_id"),
        ({"robot_id": "robot_A"}, 422, "dataset"),
        ({"robot_id": "../x", "dataset": "a"}, 422, "robot_id"),
        ({"robot_id": "robot_A", "dataset": "../a"}, 422, "dataset"),
        ({"session_id": 1, "robot_id": "robot_A", "dataset": "a"}, 422, "session_id"),
        ({"session_id": 0}, 422, "session_id"),
        ({"session_id": 12345}, 404, "session_id"),
        ({"robot_id": "robot_A", "dataset": "not/there"}, 404, "dataset"),
        ({"session": 1}, 422, "session"),
    ],
)
async def test_bad_questions_name_the_field(http, asked, status, field):
    """Nothing is erased by them."""
    answer = await http.post("/erasures", json=asked)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert (await http.get("/erasures")).json()["erasures"] == []
    assert (await http.get("/erasures/7")).status_code == 404


async def test_a_robot_hears_that_it_was_erased(service, http, database):
    """The one that records is cut off; whoever comes back is told who did it, and that it is for good."""
    stream = uuid4()
    async with TestRobot.connected(service, stream=stream) as robot:
        await robot.send(batch(0, 50))
        await robot.acked(50)
        session = robot.welcome.session_id
        assert (await http.post("/erasures", json={"session_id": session})).status_code == 202
        await robot.send(batch(50, 50))
        while not isinstance(cut := await robot.hear_any(), ErrorMessage):
            pass
        assert cut.fatal
    for done in (False, True):
        if done:
            await database.connection.execute(OTHERS_DONE)
            await until(lambda: database.value("SELECT count(*) = 0 FROM teleop_session"))
        async with dial(service) as connection:
            robot = TestRobot(connection, stream)
            await robot.say(Hello(stream=stream, session=description()))
            error = await robot.hear(ErrorMessage)
        assert (error.code, error.fatal, error.retryable) == ("session_erased", True, False)
        assert f"session {session} was erased for good by this machine on 20" in error.detail
    assert await database.value("SELECT count(*) FROM teleop_session") == 0


async def test_whoever_could_read_a_session_hears_who_erased_it(http, recorded, database):
    """Whatever is asked of it; a number that never was is none, and others' sessions are no news."""
    erased, other = recorded[0], recorded[1]
    robot_id = await database.value("SELECT robot_id FROM teleop_session WHERE id = $1", erased)
    assert (await http.post("/erasures", json={"session_id": erased})).status_code == 202
    await database.connection.execute(OTHERS_DONE)
    await until(
        lambda: database.value("SELECT NOT EXISTS (SELECT FROM teleop_session WHERE id = $1)", erased)
    )
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/ledger", None),
        ("GET", "/frames", None),
        ("PATCH", "", {"note": "x"}),
        ("PATCH", "/episodes/0", {"note": "x"}),
        ("DELETE", "", None),
        ("POST", "/give-up-missing", None),
    ):
        answer = await http.request(method, f"/sessions/{erased}{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (410, "session_erased"), (method, path)
        assert f"session {erased} was erased for good by this machine on 20" in answer.json()["detail"]
    assert (await http.get(f"/sessions/{other}")).status_code == 200
    assert (await http.get("/sessions/9999")).status_code == 404
    for name, status in ((robot_id, 410), ("somebody_else", 404)):
        token = (await http.post("/tokens", json={"name": name, "role": "robot"})).json()["token"]
        answer = await http.get(f"/sessions/{erased}", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status
        assert ("this machine" in answer.text) == (status == 410)


async def test_an_archived_session_leaves_the_store_too(
    pool, store, database, database_url, recorded, tmp_path
):
    """Frames, description and note; a session with the same frames keeps the file that both had."""
    files = SessionFiles(store, database_url)
    retention = Retention(pool, files, timedelta(days=30))
    await note_all_sessions(pool, store)
    assert await retention.once()
    kept = await database.fetch("SELECT * FROM session_archive ORDER BY session_id")
    await database.connection.execute(
        "UPDATE session_archive SET frames_sha256 = $1 WHERE session_id = $2",
        kept[0]["frames_sha256"],
        kept[3]["session_id"],
    )
    for session in (recorded[1], recorded[0]):
        await ask_session(database, session)
    await database.connection.execute(OTHERS_DONE)
    await erasing(pool, store).once()
    for row, own in ((kept[1], True), (kept[0], False)):
        assert await store.size(row["about_sha256"]) is None
        assert (await store.size(row["frames_sha256"]) is None) == own
        assert await rows_of(database, row["session_id"]) == {}
        assert not list(tmp_path.rglob(f"sessions/{row['session_id']}/*"))
        assert await store.note(f"sessions/known/{row['session_id']}") is None
    assert await store.note(f"sessions/known/{recorded[3]}") is not None
    assert len(await database.fetch("SELECT FROM session_archive")) == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_whoever_dies_in_the_middle_is_followed(pool, store, database, monkeypatch, after):
    """At each change of the store, and between any two steps."""
    monkeypatch.setattr("teleop_telemetry.erasing.share.FRAMES_TOGETHER", 100)
    deaths, died = 0, True
    while died:
        session = record_session(database.url, 250, episodes=[(0, 100)])
        await database.connection.execute(JUDGED, session)
        await database.connection.execute(RENAMED, session)
        await note_all_sessions(pool, store)
        erasure = await ask_session(database, session)
        await database.connection.execute(OTHERS_DONE)
        try:
            await erasing(pool, DyingStore(store, deaths + 1, after=after)).once()
            died = False
        except Died:
            deaths += 1
            await erasing(pool, store).once()
        share = await share_of(database, erasure, SERVICE)
        assert share["done_at"] is not None
        assert msgspec.json.decode(share["removed"]) == {
            "frames": 250,
            "changes": 1,
            "session_changes": 1,
            "episodes": 1,
            "sessions": 1,
        }
        assert await rows_of(database, session) == {}
        assert await store.note(f"sessions/known/{session}") is None
    assert deaths >= 5


async def test_a_statement_that_fails_is_tried_again(pool, store, database):
    """The frames are gone, the session is not: the next round ends it."""
    session = record_session(database.url, 250, episodes=[(0, 100)])
    erasure = await ask_session(database, session)
    await database.connection.execute(OTHERS_DONE)
    await database.connection.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '22000'; END $$;
           CREATE TRIGGER refuse BEFORE DELETE ON episode FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )
    with pytest.raises(asyncpg.DataError):
        await erasing(pool, store).once()
    share = await share_of(database, erasure, SERVICE)
    assert "injected" in share["problem"]
    assert await rows_of(database, session) == {
        "episode": 1,
        "episode_look": 1,
        "teleop_session": 1,
    }
    await database.connection.execute("DROP TRIGGER refuse ON episode")
    await erasing(pool, store).once()
    share = await share_of(database, erasure, SERVICE)
    assert (share["done_at"] is not None, share["problem"]) == (True, None)


async def test_the_view_with_a_column_per_joint_goes_too(pool, store, database):
    """It has the names of the session's joints."""
    session = record_session(database.url, 10)
    await database.value("SELECT make_session_view($1)", session)
    await ask_session(database, session)
    await database.connection.execute(OTHERS_DONE)
    await erasing(pool, store).once()
    assert await database.value("SELECT to_regclass($1)::text", f"session_{session}") is None


async def test_a_restored_database_erases_again(pool, store, database):
    """The store remembers what was erased: it goes once more, and a robot does not bring it back."""
    session = record_session(database.url, 30)
    stream = await database.value("SELECT stream_id FROM teleop_session WHERE id = $1", session)
    await ask_session(database, session)
    await note_erasures(pool, store)
    # As it was before.
    await database.connection.execute("DELETE FROM erasure_share; DELETE FROM erasure")
    assert await read_erasures(pool, store) == 1
    assert await read_erasures(pool, store) == 0
    told = await database.fetch("SELECT session_id, stream_id, asked_by FROM erasure")
    assert told == [{"session_id": session, "stream_id": stream, "asked_by": "anna"}]
    await database.connection.execute(OTHERS_DONE)
    await erasing(pool, store).once()
    assert await rows_of(database, session) == {}
    with pytest.raises(SessionErased):
        await SessionTable(pool, 3).open(stream, "robot_A", description(), delivery="acknowledged")


async def test_a_new_database_does_not_take_it_over(pool, store, database):
    """Neither from a note nor from the archive; what was not erased comes back."""
    session, other = record_session(database.url, 30), record_session(database.url, 30)
    await note_all_sessions(pool, store)
    await ask_session(database, session)
    await note_erasures(pool, store)
    await database.connection.execute(
        """DELETE FROM teleop_frame; DELETE FROM teleop_session; DELETE FROM erasure_share;
           DELETE FROM erasure"""
    )
    await adopt(pool, store)
    assert await database.fetch("SELECT id FROM teleop_session") == [{"id": other}]


async def test_sessions_that_are_opened_meanwhile_are_waited_for(pool, database, http):
    """Two erasures and a robot that comes back, all at once, a few times."""
    for _ in range(5):
        stream = uuid4()
        table = SessionTable(pool, 3)
        opened = await table.open(stream, "robot_A", description(), delivery="acknowledged")
        asking = [http.post("/erasures", json={"session_id": opened.id}) for _ in range(2)]
        coming = table.open(stream, "robot_A", description(), delivery="acknowledged")
        one, two, came = await asyncio.gather(*asking, coming, return_exceptions=True)
        assert one.json()["id"] == two.json()["id"]
        assert isinstance(came, SessionErased) or came.id == opened.id
        await database.connection.execute(OTHERS_DONE)
        gone = "SELECT count(*) = 0 FROM teleop_session WHERE stream_id = $1"
        await until(lambda stream=stream, gone=gone: database.value(gone, stream))
        with pytest.raises(SessionErased):
            await table.open(stream, "robot_A", description(), delivery="acknowledged")


def command(database_url: str, *words: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "teleop_telemetry.access", "erase", *words],
        env={"DATABASE_URL": database_url, "PATH": ""},
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


async def test_the_command_shows_what_goes_and_waits(service, database, database_url):
    """It asks a person; where nobody is, it needs --yes. The account is printed at the end."""
    session = record_session(database_url, 120, episodes=[(0, 100)])
    refused = await asyncio.to_thread(command, database_url, "session", str(session), said="")
    assert refused.returncode == 1
    assert "1 episode" in refused.stdout
    assert "--yes" in refused.stderr
    assert await database.value("SELECT count(*) FROM erasure") == 0
    running = asyncio.create_task(asyncio.to_thread(command, database_url, "session", str(session), "--yes"))
    await until(lambda: database.value("SELECT count(*) = 1 FROM erasure"))
    await database.connection.execute(OTHERS_DONE)
    done = await running
    assert done.returncode == 0, done.stderr
    assert "telemetry-service: 120 frames" in done.stdout
    assert "make backup" in done.stdout
    listed = await asyncio.to_thread(command, database_url, "list")
    assert f"session {session}" in listed.stdout
    assert "erased" in listed.stdout
    assert await database.fetch("SELECT principal, subject FROM audit") == [
        {"principal": "command line", "subject": f"session {session} of robot_A"}
    ]
    unknown = await asyncio.to_thread(command, database_url, "session", "99", "--yes")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: there is no session 99; GET /sessions lists")
