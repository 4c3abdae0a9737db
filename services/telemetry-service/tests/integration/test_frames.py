"""Frames read back in every format."""

import asyncio
import csv
import io
import threading
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from teleop_runtime.postgres.frames import FrameReader
from teleop_schema.messages import Batch
from teleop_telemetry.reading.frame_endpoints import MAX_FRAME_READERS, FrameFile
from teleop_testing.robots.robot import JOINTS, TestRobot, batch, description, values_of
from teleop_testing.waiting import PATIENCE_S, until

FRAMES = 50
JSON, CSV = "application/json", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
VALUES = [f"{part}.{joint}" for part in ("observation", "action") for joint in JOINTS]
COLUMNS = ["frame_index", "timestamp", *VALUES, "observation_age_us", "extra"]
NOTHING = {"timestamps": b"", "state": b"", "action": b""}


@pytest_asyncio.fixture
async def session(service):
    """A session of 50 frames, two of them with something extra, two that repeat an observation."""
    async with TestRobot.connected(service) as robot:
        extra = {3: {"grip": 1.5}, 7: {"note": 'a "b",\n'}}
        await robot.send(batch(0, FRAMES, extra=extra, observation_ages_us={7: 16_667, 8: 2**40}))
        await robot.acked(FRAMES)
        return robot.welcome.session_id


@pytest_asyncio.fixture
async def read(http):
    """Reads frames of a session as the tables that clients make of them."""

    async def read(session: int, media_type: str = ARROW, **query) -> pa.Table:
        answer = await http.get(f"/sessions/{session}/frames", params=query, headers={"Accept": media_type})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].split(";")[0] == media_type
        return {ARROW: of_arrow, PARQUET: of_parquet, CSV: of_csv, JSON: of_json}[media_type](answer)

    return read


def of_arrow(answer) -> pa.Table:
    return pa.ipc.open_stream(answer.content).read_all()


def of_parquet(answer) -> pa.Table:
    return pq.read_table(io.BytesIO(answer.content))


def of_csv(answer) -> pa.Table:
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    for row in rows:
        row["frame_index"] = int(row["frame_index"])
        row["timestamp"] = datetime.fromisoformat(row["timestamp"])
        row["observation_age_us"] = int(row["observation_age_us"])
        row["extra"] = row["extra"] or None
        row |= {name: float(row[name]) for name in row if "." in name}
    return pa.Table.from_pylist(rows)


def of_json(answer) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "frame_index": frame["frame_index"],
                "timestamp": datetime.fromisoformat(frame["timestamp"]),
                **{
                    f"{part}.{name}": value
                    for part in ("observation", "action")
                    for name, value in frame[part].items()
                },
                "observation_age_us": frame.get("observation_age_us", 0),
                "extra": frame.get("extra"),
            }
            for frame in answer.json()["frames"]
        ]
    )


async def test_every_format_holds_what_the_table_holds(session, read, database):
    """Index, time, values and extra of every frame, bit by bit, whatever the format."""
    stored = await database.fetch("SELECT * FROM teleop_frame ORDER BY frame_index")
    for media_type in (JSON, CSV, ARROW, PARQUET):
        table = await read(session, media_type)
        assert table.column_names == COLUMNS
        for row, frame in zip(stored, table.to_pylist(), strict=True):
            assert (frame["frame_index"], frame["timestamp"]) == (row["frame_index"], row["timestamp"])
            assert [frame[name] for name in VALUES] == [*row["state"], *row["action"]]
            assert frame["observation_age_us"] == (row["observation_age_us"] or 0)
            assert (frame["extra"] is None) == (row["extra"] is None)
    extra = (await read(session, JSON))["extra"].to_pylist()
    assert (extra[3]["grip"], extra[7]["note"]) == (1.5, 'a "b",\n')


async def test_ranges(session, read):
    """`from` and `to` bound the frames like a slice; beyond the end there is nothing."""
    for query, expected in [
        ({"from": 10}, range(10, 50)),
        ({"to": 10}, range(10)),
        ({"from": 10, "to": 12}, range(10, 12)),
        ({"from": 48, "to": 1000}, range(48, 50)),
        ({"from": 10, "to": 10}, range(0)),
        ({"from": 1000}, range(0)),
        ({"from": 2**62, "to": 2**62 + 1}, range(0)),
    ]:
        table = await read(session, **query)
        assert (query, table["frame_index"].to_pylist()) == (query, list(expected))
        assert table.column_names == COLUMNS


async def test_blocks_are_joined(session, read, monkeypatch):
    """A session that is read in many blocks is the same as in one."""
    whole = {media_type: await read(session, media_type) for media_type in (JSON, CSV, ARROW, PARQUET)}
    monkeypatch.setattr("teleop_telemetry.reading.frame_endpoints.BLOCK_VALUES", 7 * 5)
    for media_type, table in whole.items():
        assert await read(session, media_type) == table


@pytest.mark.parametrize("block_values", [10_000, 7 * 5, 2])
async def test_envelope_keeps_peaks(session, read, monkeypatch, block_values):
    """However few points are asked for, and however it is read, least and greatest values are among them."""
    monkeypatch.setattr("teleop_telemetry.reading.frame_endpoints.BLOCK_VALUES", block_values)
    for max_points in (2, 3, 10, 49, 50, 1000):
        table = await read(session, max_points=max_points)
        assert table.num_rows <= max_points
        values = table[f"observation.{JOINTS[0]}"].to_pylist()
        assert (min(values), max(values)) == (values_of(0)[0], values_of(FRAMES - 1)[0])
        assert table["frame_index"][0].as_py() == 0
        assert table["frame_index"][-1].as_py() == FRAMES - 1


async def test_envelope_over_gaps(service, read, database):
    """A long gap makes no points, and no error."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 10))
        await robot.send(batch(10, 4000, gap="lost", **NOTHING))
        await robot.send(batch(4010, 10))
        await robot.acked(4020)
    table = await read(robot.welcome.session_id, max_points=20)
    assert table["frame_index"].to_pylist()[0] == 0
    assert table["frame_index"].to_pylist()[-1] == 4019


@pytest.mark.parametrize("query", [{}, {"from": 5}, {"max_points": 20}, {"max_points": 4}])
async def test_huge_gap(service, read, query):
    """Reading goes from frame to frame, not over all indexes that somebody claims are missing."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 10))
        end = 10
        for _ in range(3):
            await robot.send(Batch(first=end, count=2**32, gap="lost"))
            end += 2**32
        await robot.send(batch(end, 10))
        await robot.acked(end + 10)
    table = await read(robot.welcome.session_id, **query)
    stored = [*range(10), *range(end, end + 10)][query.get("from", 0) :]
    indexes = table["frame_index"].to_pylist()
    if query == {"max_points": 4}:
        assert (indexes[0], indexes[-1], len(indexes)) == (0, end + 9, 4)
    else:
        assert indexes == stored


async def test_session_without_actions(service, read):
    """A robot that only observes has frames without actions."""
    session = description(action_names=())
    async with TestRobot.connected(service, session=session) as robot:
        await robot.send(batch(0, 5, action=b""))
        await robot.acked(5)
    for media_type in (JSON, CSV, ARROW, PARQUET):
        table = await read(robot.welcome.session_id, media_type)
        assert [name for name in table.column_names if name.startswith("action.")] == []
        assert table.num_rows == 5


async def test_session_without_frames(service, read, http):
    """A session that has only begun is an empty table with all its columns."""
    async with TestRobot.connected(service) as robot:
        session = robot.welcome.session_id
    for media_type in (ARROW, PARQUET):
        table = await read(session, media_type)
        assert (table.num_rows, table.column_names) == (0, COLUMNS)
    answer = await http.get(f"/sessions/{session}/frames", headers={"Accept": CSV})
    assert answer.text.strip() == ",".join(f'"{name}"' for name in COLUMNS)
    assert (await http.get(f"/sessions/{session}/frames")).json() == {"frames": []}


async def test_what_can_not_be_served(session, http):
    """Formats that there are not and ranges that make no sense are refused with what was wrong."""
    path = f"/sessions/{session}/frames"
    answer = await http.get(path, headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["field"]) == (406, "Accept")
    assert PARQUET in answer.json()["hint"]
    for query, field in [
        ("from=-1", "from"),
        ("from=10&to=5", "to"),
        ("from=x", "from"),
        ("max_points=1", "max_points"),
        ("max_points=1000000000", "max_points"),
        ("step=2", "step"),
    ]:
        answer = await http.get(f"{path}?{query}")
        assert (query, answer.status_code, answer.json()["field"]) == (query, 422, field)


async def test_file_has_a_name(session, http):
    """A browser that saves the frames knows what to call them."""
    answer = await http.get(f"/sessions/{session}/frames", headers={"Accept": PARQUET})
    assert answer.headers["content-disposition"] == f'inline; filename="session-{session}.parquet"'
    assert answer.headers["vary"] == "Accept"


async def test_reader_that_leaves_lets_go(session, http, database, monkeypatch):
    """Clients that break off their reading use up neither readers nor database connections."""
    monkeypatch.setattr("teleop_telemetry.reading.frame_endpoints.BLOCK_VALUES", 7)
    for _ in range(6):
        async with http.stream("GET", f"/sessions/{session}/frames") as answer:
            await anext(answer.aiter_bytes())
    assert len((await http.get(f"/sessions/{session}/frames")).json()["frames"]) == FRAMES


async def test_whoever_does_not_read_keeps_nobody_else_waiting(session, http, service, monkeypatch):
    """A caller's clients may stop reading, as many as there are; another caller's get their frames."""
    began, go_on = [], threading.Event()

    def encode_slowly(*_about):
        began.append(1)
        yield b"x"
        assert go_on.wait(PATIENCE_S)

    monkeypatch.setattr("teleop_telemetry.reading.frame_endpoints.encode", encode_slowly)
    head = f"GET /sessions/{session}/frames HTTP/1.1\r\nHost: {service}\r\n"
    robot_id = (await http.get(f"/sessions/{session}")).json()["robot_id"]
    token = (await http.post("/tokens", json={"name": robot_id, "role": "robot"})).json()["token"]
    lines = [await asyncio.open_connection(*service.split(":")) for _ in range(MAX_FRAME_READERS + 1)]
    try:
        for _, writer in lines[1:]:
            writer.write(f"{head}\r\n".encode())
        await until(lambda: began)
        reader, writer = lines[0]
        writer.write(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        assert b" 200 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
    finally:
        go_on.set()
        for _, writer in lines:
            writer.close()


async def test_reading_ends_with_its_client(session, service, monkeypatch):
    """Who reads for a client that has left stops, though there was nothing yet to be sent."""
    reads, closed, noticed, go_on = [], [], asyncio.Event(), threading.Event()
    read, close, listen = FrameReader.read, FrameReader.close, FrameFile.listen_for_disconnect

    def read_slowly(*arguments, **options):
        reads.append(options)
        if len(reads) == 3:
            assert go_on.wait(PATIENCE_S)
        return read(*arguments, **options)

    async def listen_loudly(answer, receive) -> None:
        await listen(answer, receive)
        noticed.set()

    monkeypatch.setattr("teleop_telemetry.reading.frame_endpoints.BLOCK_VALUES", 2)
    monkeypatch.setattr(FrameReader, "read", read_slowly)
    monkeypatch.setattr(FrameReader, "close", lambda reader: closed.append(close(reader)))
    monkeypatch.setattr(FrameFile, "listen_for_disconnect", listen_loudly)
    _, writer = await asyncio.open_connection(*service.split(":"))
    # For two points all frames have to be read before the first byte goes out.
    writer.write(f"GET /sessions/{session}/frames?max_points=2 HTTP/1.1\r\nHost: {service}\r\n\r\n".encode())
    await until(lambda: len(reads) == 3)
    writer.close()
    async with asyncio.timeout(PATIENCE_S):
        await noticed.wait()
    go_on.set()
    await until(lambda: closed)
    assert len(reads) == 3
