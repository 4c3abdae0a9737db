"""Ledgers: the account of each session's frames and pictures, over HTTP."""

import re
import struct

import pytest
from teleop_testing.robots.plain import FRAME, client, complete
from teleop_testing.robots.robot import PERIOD_US, STARTED_US, TestRobot, batch, record

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


async def ledger(http, session: int) -> dict:
    return (await http.get(f"/sessions/{session}/ledger")).json()


async def test_ledger_of_a_whole_session(http, service):
    """All that was logged is committed: nothing missing, nothing doubled, nothing unaccounted for."""
    told = await ledger(http, await record(service, frames=100))
    assert (told["logged"], told["committed"], told["complete"]) == (100, 100, True)
    assert (told["missing"], told["duplicates"], told["unaccounted"], told["gaps"]) == (0, 0, 0, [])
    assert told["declared_hz"] == 60
    assert told["measured_hz"] == round(1e6 / PERIOD_US, 3)
    assert told["jitter_ms"] == pytest.approx(0, abs=1e-6)
    assert (told["backwards"], told["implausible"]) == (0, 0)


async def test_ledger_of_a_session_with_gaps(http, service):
    """Each gap is there with its reason, and the account still adds up."""
    nothing = {"timestamps": b"", "state": b"", "action": b""}
    batches = [
        batch(0, 10),
        batch(10, 5, gap="the disk was full", **nothing),
        batch(15, 5, timestamps=struct.pack("<5q", 2**62, *range(4))),
    ]
    told = await ledger(http, await record(service, frames=20, batches=batches))
    assert told["gaps"] == [
        {"first_frame": 10, "end_frame": 15, "reason": "the disk was full"},
        {"first_frame": 15, "end_frame": 16, "reason": "the timestamp is outside the years 1 to 9999"},
    ]
    assert (told["logged"], told["committed"], told["missing"], told["unaccounted"]) == (20, 14, 6, 0)
    assert told["complete"] is False


async def test_ledger_of_repeated_observations(http, service, database):
    """Of 180 actions beside 12 observations 168 are counted; the view for SQL tells them apart."""
    ages = {number: PERIOD_US * (number % 15) for number in range(180) if number % 15}
    session = await record(service, frames=180, batches=[batch(0, 180, observation_ages_us=ages)])
    told = await ledger(http, session)
    assert (told["committed"], told["repeated_observations"], told["complete"]) == (180, 168, True)
    rows = await database.fetch("SELECT frame_index, observation_age_us FROM teleop_frame_data ORDER BY 1")
    assert {
        row["frame_index"]: row["observation_age_us"] for row in rows if row["observation_age_us"]
    } == ages


async def test_ledger_of_frames_without_a_time(http, service, database):
    """Of plain messages and arrays, those are counted whose time is that of their arrival; robots of the
    acknowledged mode tell each; what an older server took nobody has counted, and it says so."""
    timed = [FRAME | {"timestamp": STARTED_US / 1e6 + number} for number in range(3)]
    bare = {name: value for name, value in FRAME.items() if name != "timestamp"}
    async with client(service) as robot:
        await robot.send(bare)
        await robot.send([*timed[:2], bare, bare, timed[2]])
        await robot.acked(6)
    plain = (await complete(database))["id"]
    assert (await ledger(http, plain))["times_not_told"] == 3
    told = await record(service, frames=10)
    assert (await ledger(http, told))["times_not_told"] == 0
    # As an older service leaves them, before and after the migration.
    await database.connection.execute("UPDATE teleop_session SET untold_times = NULL")
    assert [(await ledger(http, each))["times_not_told"] for each in (plain, told)] == [None, 0]


CAMERAS = "UPDATE teleop_session SET cameras = $2 WHERE id = $1"
ADD_OBJECT = "INSERT INTO stored_object (sha256, size_bytes) VALUES ($1, 1) ON CONFLICT DO NOTHING"
ADD_CHUNK = """
INSERT INTO video_chunk (session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp,
                         end_timestamp, frame_count, frame_indices, dropped)
SELECT id, $2, $3, 'path', $4, 1, start_time, start_time + $5::float8 * interval '1 s', $6, $7, $8
  FROM teleop_session WHERE id = $1
"""


@pytest.fixture
def add_chunk(database):
    """Stores a chunk of a session's camera as video-ingest-service does."""

    async def add(session, number, frames, *, dropped="[]", camera="front", told=True):
        sha256 = f"{number:064x}"
        await database.connection.execute(ADD_OBJECT, sha256)
        indices = list(frames)
        await database.connection.execute(
            *(ADD_CHUNK, session, camera, number, sha256, indices[-1] / 60, len(indices)),
            *(indices if told else None, dropped),
        )

    return add


async def test_a_session_whose_pictures_are_not_there_is_not_complete(http, service, database, add_chunk):
    """However complete its frames are: of each camera it is told what has come, and from where on nothing."""
    session = await record(service, frames=600)
    await database.connection.execute(CAMERAS, session, '{"front": {}, "wrist": {}}')

    async def of(camera: str) -> dict:
        told = await ledger(http, session)
        assert told["complete"] is False
        (found,) = (each for each in told["cameras"] if each["camera_key"] == camera)
        return found

    assert await of("front") == {
        "camera_key": "front", "chunks": 0, "missing_chunks": 0, "pictures": 0, "awaited_from": 0,
        "strays": [], "quarantined": [],
    }  # fmt: skip
    await add_chunk(session, 1, range(200, 400))
    assert (await of("front"))["missing_chunks"] == 1
    await add_chunk(session, 0, range(200))
    found = await of("front")
    assert (found["missing_chunks"], found["pictures"], found["awaited_from"]) == (0, 400, 400)
    # What is named as lost has not to come any more; the last second may be without a picture.
    await add_chunk(session, 2, [401], dropped='[{"first": 402, "end": 560, "reason": "too slow"}]')
    assert (await of("front"))["awaited_from"] is None
    await add_chunk(session, 0, range(500), camera="wrist", told=False)
    assert (await of("wrist"))["awaited_from"] == 500
    await add_chunk(session, 1, range(590, 600), camera="wrist", told=False)
    assert (await ledger(http, session))["complete"] is True


@pytest.mark.parametrize("days", [-1, 1])
async def test_video_outside_its_session_is_named(http, service, database, add_chunk, days):
    """Also of a camera that no robot has told of; nothing of the session has come with it."""
    session = await record(service, frames=600)
    await add_chunk(session, 0, range(600), camera="top", told=False)
    assert (await ledger(http, session))["complete"] is True
    await database.connection.execute(
        "UPDATE video_chunk SET start_timestamp = start_timestamp + make_interval(days => $1),"
        " end_timestamp = end_timestamp + make_interval(days => $1)",
        days,
    )
    found = await ledger(http, session)
    ((top,), complete) = (found["cameras"], found["complete"])
    assert (top["camera_key"], top["awaited_from"], complete) == ("top", 0, False)
    (stray,) = top["strays"]
    assert (stray["chunk_index"], stray["id"] > 0) == (0, True)


UNUSABLE = {
    "quarantined": ("UPDATE video_chunk SET quarantine = 'torn' WHERE chunk_index = 1", "torn"),
    "damaged": (
        "UPDATE stored_object SET damage = 'it is missing'"
        " WHERE sha256 = (SELECT sha256 FROM video_chunk WHERE chunk_index = 1)",
        "its file on the server is damaged: it is missing",
    ),
}


@pytest.mark.parametrize("how", [*UNUSABLE])
@pytest.mark.parametrize("told", [True, False], ids=["by frame", "by time"])
async def test_video_that_cannot_be_used_is_named(http, service, database, add_chunk, told, how):
    """All has arrived, but a dataset will lack pictures: not complete until the chunk can be used."""
    harm, reason = UNUSABLE[how]
    session = await record(service, frames=600)
    await database.connection.execute(CAMERAS, session, '{"front": {}}')
    for number, first in enumerate((0, 300)):
        await add_chunk(session, number, range(first, first + 300), told=told)
    assert (await ledger(http, session))["complete"] is True
    await database.connection.execute(harm)
    found = await ledger(http, session)
    ((front,), complete) = (found["cameras"], found["complete"])
    assert (front["pictures"], front["awaited_from"], complete) == (300, None, False)
    (chunk,) = front["quarantined"]
    assert (chunk["chunk_index"], chunk["reason"], chunk["id"] > 0) == (1, reason, True)
    await database.connection.execute(
        "UPDATE video_chunk SET quarantine = NULL; UPDATE stored_object SET damage = NULL"
    )
    assert (await ledger(http, session))["complete"] is True


async def test_ledger_of_an_uneven_session(http, service):
    """Stalls, steps back and impossible times are told, with the frame of the longest stall."""
    times = [0, 10, 20, 2520, 2530, 2525, 2540]
    sent = struct.pack("<7q", *(STARTED_US + 1000 * time for time in times[:-1]), 0)
    told = await ledger(http, await record(service, frames=7, batches=[batch(0, 7, timestamps=sent)]))
    assert (told["longest_stall_ms"], told["stall_at_frame"]) == (pytest.approx(2500), 3)
    assert (told["backwards"], told["implausible"]) == (2, 1)
    assert told["jitter_ms"] > 100
    for name in ("measured_hz", "jitter_ms", "longest_stall_ms"):
        assert told[name] == round(told[name], 3), name


async def test_ledger_of_a_session_that_goes_on(http, service):
    """Of a session that has not ended, nobody knows yet how much was logged."""
    async with TestRobot.connected(service) as robot:
        empty = await ledger(http, robot.welcome.session_id)
        await robot.send(batch(0, 1))
        await robot.acked(1)
        told = await ledger(http, robot.welcome.session_id)
    assert (empty["committed"], empty["measured_hz"], empty["stall_at_frame"]) == (0, None, None)
    assert (told["logged"], told["committed"], told["complete"], told["measured_hz"]) == (
        None,
        1,
        False,
        None,
    )


async def test_ledger_finds_what_must_not_be(http, service, database):
    """A frame that vanished from the database is unaccounted for."""
    session = await record(service)
    await database.connection.execute("DELETE FROM teleop_frame WHERE frame_index = 4")
    told = await ledger(http, session)
    assert (told["committed"], told["unaccounted"], told["complete"]) == (9, 1, False)


async def test_frames_that_nobody_knows_of_can_be_given_up(service, database, http):
    """They are named as lost, each once, so that the session can be exported; nothing else is."""
    session = await record(service, batches=[batch(0, 10), batch(10, 10)], frames=20)
    await database.connection.execute(
        "DELETE FROM teleop_frame WHERE session_id = $1 AND frame_index IN (0, 5, 6, 7, 19)", session
    )
    await database.connection.execute("INSERT INTO frame_gap VALUES ($1, 6, 7, 'disk full')", session)
    assert (await http.get(f"/sessions/{session}/ledger")).json()["unaccounted"] == 4
    for by in ("Kim", "Lee"):
        ledger = (await http.post(f"/sessions/{session}/give-up-missing?by={by}")).json()
        assert (ledger["unaccounted"], ledger["missing"], ledger["complete"]) == (0, 5, False)
        gaps = {gap["first_frame"]: gap["end_frame"] for gap in ledger["gaps"]}
        assert gaps == {0: 1, 5: 6, 6: 7, 7: 8, 19: 20}
        # The first of them found all that there was.
        (reason,) = {gap["reason"] for gap in ledger["gaps"]} - {"disk full"}
        assert re.fullmatch(
            rf"given up on {MOMENT} UTC by Kim from 127\.0\.0\.1: what became of them .*", reason
        )
    assert (await http.post("/sessions/999999/give-up-missing")).status_code == 404


async def test_who_gives_frames_up_need_not_be_told(service, database, http):
    """Nobody's name is asked for."""
    session = await record(service, batches=[batch(0, 10)], frames=10)
    await database.connection.execute("DELETE FROM teleop_frame WHERE session_id = $1", session)
    refused = await http.post(f"/sessions/{session}/give-up-missing?by=")
    assert (refused.status_code, refused.json()["field"]) == (422, "by")
    ledger = (await http.post(f"/sessions/{session}/give-up-missing")).json()
    assert "by an operator from 127.0.0.1: " in ledger["gaps"][0]["reason"]
