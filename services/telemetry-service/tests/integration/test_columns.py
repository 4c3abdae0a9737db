"""Columns beyond state and action: from the wire to the table, and back in every format."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.columns import Column, pack_values
from teleop_schema.messages import Event
from teleop_testing.robots.robot import TestRobot, batch

REWARD = Column(0, "next.reward", "float64", (1,))
COUNT = Column(1, "count", "int64", (1,))
POSE = Column(2, "pose", "float32", (2, 2), ["a", "b"])
FIRST = (0.1, 2**53 + 1)
POSES = np.array([[1.5, np.nan], [np.inf, -2.0]], np.float32)


def told(*columns: Column, at: int = 0) -> tuple[Event, ...]:
    return tuple(Event(kind="column", frame_index=at, column=column) for column in columns)


def values(reward: float, count: int) -> bytes:
    return pack_values({0: np.float64(reward).tobytes(), 1: np.int64(count).tobytes()})


async def record(service) -> int:
    """Four frames: the second has two values, and the last one, after another connection, a third."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 2, columns={1: values(*FIRST)}, events=told(REWARD, COUNT)))
        await robot.acked(2)
    async with TestRobot.connected(service, stream=robot.stream) as robot:
        late = pack_values({1: np.int64(-1).tobytes(), 2: POSES.tobytes()})
        await robot.send(batch(2, 2, columns={1: late}, events=told(COUNT, POSE, at=2)))
        await robot.acked(4)
        return robot.welcome.session_id


async def test_columns_come_back_in_every_format(service, http):
    """With their dtype and every bit; what a frame lacks is null, and not there in JSON."""
    session = await record(service)
    about = (await http.get(f"/sessions/{session}")).json()["columns"]
    assert [(column["name"], column["dtype"], column["shape"]) for column in about] == [
        ("next.reward", "float64", [1]),
        ("count", "int64", [1]),
        ("pose", "float32", [2, 2]),
    ]

    async def read(media_type: str) -> bytes:
        answer = await http.get(f"/sessions/{session}/frames", headers={"Accept": media_type})
        assert answer.status_code == 200, answer.text
        return answer.content

    arrow = pa.ipc.open_stream(await read("application/vnd.apache.arrow.stream")).read_all()
    for table in (arrow, pq.read_table(io.BytesIO(await read("application/vnd.apache.parquet")))):
        assert table["columns.next.reward"].to_pylist() == [None, FIRST[0], None, None]
        assert table["columns.count"].to_pylist() == [None, FIRST[1], None, -1]
        assert table["columns.count"].type == pa.int64()
        poses = table["columns.pose"].to_pylist()
        assert poses[:3] == [None] * 3
        np.testing.assert_array_equal(np.float32(poses[3]), POSES.reshape(-1))
    frames = json.loads(await read("application/json"))["frames"]
    assert [frame.get("columns") for frame in frames] == [
        None,
        {"next.reward": 0.1, "count": 2**53 + 1},
        None,
        {"count": -1, "pose": [1.5, None, "Infinity", -2.0]},
    ]
    rows = (await read("text/csv")).decode().splitlines()
    assert "0.1,9007199254740993,,0," in rows[2]
    assert ',,-1,"[1.5,null,""Infinity"",-2.0]",0,' in rows[4]


async def test_texts_come_back_in_every_format(service, http):
    """As they were; what no frame's text can be is refused."""
    text = Column(0, "instruction", "string", (1,))
    words = 'take "it", 그리고\n놓아'
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 2, columns={1: pack_values({}, {0: words.encode()})}, events=told(text)))
        await robot.acked(2)
        session = robot.welcome.session_id
        await robot.send(batch(2, 1, columns={0: pack_values({}, {0: b"\xff"})}))
        assert (await robot.hear_any()).field == "columns[0]"
    path = f"/sessions/{session}/frames"
    arrow = await http.get(path, headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert pa.ipc.open_stream(arrow.content).read_all()["columns.instruction"].to_pylist() == [None, words]
    frames = (await http.get(path)).json()["frames"]
    assert [frame.get("columns") for frame in frames] == [None, {"instruction": words}]
    rows = csv.DictReader(io.StringIO((await http.get(path, headers={"Accept": "text/csv"})).text))
    assert [row["columns.instruction"] for row in rows] == ["", words]
    thinned = (await http.get(path, params={"max_points": 2})).json()["frames"]
    assert len(thinned) == 2


async def test_columns_are_thinned_out(service, http):
    """An envelope shows the peaks of the numbers that there are."""
    session = await record(service)
    answer = await http.get(f"/sessions/{session}/frames", params={"max_points": 2})
    low, high = answer.json()["frames"]
    assert (low["columns"], high["columns"]) == (
        {"next.reward": 0.1, "count": -1},
        {"next.reward": 0.1, "count": 2**53 + 1},
    )


async def test_column_that_was_never_told_costs_only_itself(service, database):
    """A damaged spool may have lost where a column was told: the frames must not be stuck behind it."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 2, columns={0: values(*FIRST)}, events=told(COUNT)))
        await robot.acked(2)
    rows = await database.fetch("SELECT columns, extra FROM teleop_frame ORDER BY frame_index")
    assert [row["columns"] for row in rows] == [None, None]
    assert "never described" in json.loads(rows[0]["extra"])["columns_lost"]


async def test_values_that_do_not_fit_are_refused(service):
    """Bytes that are no values of the columns end the connection, and the error names them."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 1, columns={0: values(*FIRST)[:-1]}, events=told(REWARD, COUNT)))
        error = await robot.hear_any()
        assert (error.code, error.field, error.fatal) == ("bad_message", "columns[0]", True)
