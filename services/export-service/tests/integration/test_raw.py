"""Sessions as they were recorded: tables of Parquet, and MCAP files that Foxglove opens."""

import asyncio
import json
from datetime import UTC, datetime

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from lerobot_robot_virtual.scene import read_frame_counter
from mcap.reader import make_reader
from teleop_testing.datasets.recorded import NAMES
from teleop_testing.datasets.recorded_video import record_video

RECORDED = """
SELECT frame_index, "timestamp", state, action FROM teleop_frame WHERE session_id = $1 ORDER BY frame_index
"""
CHANGE_TASK = """UPDATE episode SET later_tasks = '{"50": "place"}' WHERE episode_index = 0"""
EPISODES = [(0, 100, "pick", "success"), (120, 200, None, "discarded")]


@pytest.fixture
def film(database_url, tmp_path):
    """Stores a camera's video of a session, where the service looks for it."""

    async def film(session, frames, camera="front", **about):
        return await asyncio.to_thread(
            record_video, database_url, tmp_path / "store", session, frames, camera, **about
        )

    return film


def messages_of(path, topic):
    with path.open("rb") as file:
        return list(make_reader(file).iter_messages(topics=[topic]))


def named(values):
    return dict(zip(NAMES, values, strict=True))


def video_message(schema):
    """The class that a file's own schema describes."""
    files = descriptor_pb2.FileDescriptorSet.FromString(schema.data)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))


def counters(data, codec="h264"):
    """Numbers drawn into the pictures of an elementary stream."""
    decoder = av.CodecContext.create(codec, "r")
    packets = [packet for part in data for packet in decoder.parse(part)] + decoder.parse(None)
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    return [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in frames]


async def test_parquet_holds_everything_that_was_recorded(backend, record, database):
    """Frames with their times, discarded ones too; episodes and gaps beside them, and a key to it."""
    session = await record(300, episodes=EPISODES, gaps=[(50, 60, "disk full")], task="pick")
    await database.connection.execute(CHANGE_TASK)
    export, folder = await backend.export(session, format="parquet")
    assert {path.name for path in folder.iterdir()} == {f"session-{session}", "README.md", "report.json"}
    table = pq.read_table(folder / f"session-{session}/frames.parquet")
    rows = await database.fetch(
        'SELECT frame_index, "timestamp", state, action FROM teleop_frame WHERE session_id = $1 ORDER BY 1',
        session,
    )
    assert table.column("frame_index").to_pylist() == [row["frame_index"] for row in rows]
    assert table.column("timestamp").to_pylist() == [row["timestamp"] for row in rows]
    for key in ("state", "action"):
        prefix = "observation." if key == "state" else "action."
        found = np.stack([table.column(prefix + name).to_numpy() for name in NAMES], axis=1)
        np.testing.assert_array_equal(found, np.float32([row[key] for row in rows]))
    episodes = pq.read_table(folder / f"session-{session}/episodes.parquet").to_pylist()
    assert [each["tasks"] for each in episodes] == [
        [{"first_frame": 0, "task": "pick"}, {"first_frame": 50, "task": "place"}],
        [{"first_frame": 120, "task": "pick"}],
    ]
    assert export["numbers"]["tasks"] == 2
    assert [(each["first_frame"], each["end_frame"], each["outcome"]) for each in episodes] == [
        (0, 100, "success"),
        (120, 200, "discarded"),
    ]
    gaps = pq.read_table(folder / f"session-{session}/gaps.parquet").to_pylist()
    whose = {"session_id": session, "robot_id": "robot_A"}
    assert gaps == [{**whose, "first_frame": 50, "end_frame": 60, "reason": "disk full"}]
    readme = (folder / "README.md").read_text()
    assert all(f"| {name} " in readme for name in ("frame_index", "timestamp", "extra"))
    assert (export["report"]["committed"], export["report"]["exported"]) == (290, 290)
    assert json.loads((folder / "report.json").read_text()) == export["report"]


@pytest.mark.parametrize(
    ("wanted", "left_out"),
    [({"format": "parquet"}, ["front", "wrist"]), ({"format": "mcap", "cameras": ["wrist"]}, ["front"])],
)
async def test_pictures_that_are_not_in_it_are_named(backend, record, film, wanted, left_out):
    """Tables have no pictures, MCAP has those that were asked for; the report names the other cameras."""
    session = await record(60)
    for camera in ("front", "wrist"):
        await film(session, 60, camera)
    export, folder = await backend.export(session, **wanted)
    assert export["report"]["sessions"][0]["pictures_left_out"] == left_out
    assert json.loads((folder / "report.json").read_text()) == export["report"]
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert f"pictures left out: of camera {', '.join(left_out)}: GET /sessions/{session}/videos" in text


async def test_sessions_of_different_robots_go_together(backend, record):
    """Each has files of its own; a rate that is not whole does not matter."""
    first = await record(20, fps=59.94)
    second = await record(30, names=("grip.pos",), actions=(), robot_type="other", robot_id="robot_B")
    _, folder = await backend.export(second, first, format="parquet")
    assert pq.read_table(folder / f"session-{first}/frames.parquet").num_rows == 20
    columns = pq.read_table(folder / f"session-{second}/frames.parquet").column_names
    joints = ["observation.grip.pos"]
    about = ["observation_age_us", "extra"]
    assert columns == ["session_id", "robot_id", "frame_index", "timestamp", *joints, *about]
    both = pa.concat_tables(
        [
            pq.read_table(folder / f"session-{session}/frames.parquet", columns=["session_id", "robot_id"])
            for session in (first, second)
        ]
    )
    assert set(map(tuple, (row.values() for row in both.to_pylist()))) == {
        (first, "robot_A"),
        (second, "robot_B"),
    }


async def test_mcap_has_joints_at_the_times_they_were_taken(backend, record, database):
    """State and action on topics of their own, by name."""
    session = await record(300, episodes=EPISODES, gaps=[(50, 60, "disk full")], task="pick")
    await database.connection.execute(CHANGE_TASK)
    _, folder = await backend.export(session, format="mcap")
    path = folder / f"session-{session}.mcap"
    rows = await database.fetch(
        'SELECT frame_index, "timestamp", state, action FROM teleop_frame WHERE session_id = $1 ORDER BY 1',
        session,
    )
    for topic, key in (("/robot/state", "state"), ("/robot/action", "action")):
        found = messages_of(path, topic)
        schema, channel, _ = found[0]
        assert (schema.name, schema.encoding, channel.message_encoding) == (
            "foxglove.JointStates",
            "protobuf",
            "protobuf",
        )
        kind = video_message(schema)
        told = [kind.FromString(message.data) for _, _, message in found]
        assert [{joint.name: joint.position for joint in each.joints} for each in told] == [
            pytest.approx(dict(zip(NAMES, row[key], strict=True))) for row in rows
        ]
        assert [each.timestamp.ToMicroseconds() for each in told] == [
            round(row["timestamp"].timestamp() * 1e6) for row in rows
        ]
        assert [message.sequence for _, _, message in found] == [row["frame_index"] for row in rows]
        times = [datetime.fromtimestamp(message.log_time / 1e9, UTC) for _, _, message in found]
        assert [round(each.timestamp() * 1e6) for each in times] == [
            round(row["timestamp"].timestamp() * 1e6) for row in rows
        ]
    with path.open("rb") as file:
        metadata = {each.name: each.metadata for each in make_reader(file).iter_metadata()}
    assert metadata["session"]["task"] == "pick"
    assert metadata["session"]["robot_id"] == "robot_A"
    assert metadata["episode 1"]["outcome"] == "discarded"
    told = [{"first_frame": 0, "task": "pick"}, {"first_frame": 50, "task": "place"}]
    assert json.loads(metadata["episode 0"]["tasks"]) == told
    assert metadata["gap 0"] == {"first_frame": "50", "end_frame": "60", "reason": "disk full"}


@pytest.mark.parametrize(("codec", "gop"), [("h264", 1), ("h264", 5), ("hevc", 5)])
async def test_mcap_has_the_recorded_pictures(backend, record, film, codec, gop):
    """All of them, across segments, decodable from the messages alone, at the times the camera took them."""
    session = await record(120)
    video = await film(session, 120, segment=17, codec=codec, gop=gop)
    export, folder = await backend.export(session, format="mcap")
    found = messages_of(folder / f"session-{session}.mcap", "/camera/front")
    schema, channel, _ = found[0]
    assert (schema.name, schema.encoding) == ("foxglove.CompressedVideo", "protobuf")
    assert channel.message_encoding == "protobuf"
    kind = video_message(schema)
    pictures = [kind.FromString(message.data) for _, _, message in found]
    told = "h264" if codec == "h264" else "h265"
    assert {(each.frame_id, each.format) for each in pictures} == {("front", told)}
    assert all(each.data.startswith(b"\0\0\0\1") or each.data.startswith(b"\0\0\1") for each in pictures)
    assert counters([each.data for each in pictures], codec) == [each.number for each in video.taken]
    times_us = [message.log_time // 1000 for _, _, message in found]
    assert times_us == [each.captured_us for each in video.taken]
    assert [each.timestamp.seconds * 10**6 + each.timestamp.nanos // 1000 for each in pictures] == times_us
    assert export["numbers"]["videos"] == 1


async def test_mcap_tells_what_depth_is(backend, record, film):
    """The recorded codes, and beside them what they stand for."""
    session = await record(60)
    video = await film(session, 60, depth_unit="m")
    _, folder = await backend.export(session, format="mcap")
    found = messages_of(folder / f"session-{session}.mcap", "/camera/front")
    schema, channel, _ = found[0]
    told = {"is_depth_map": "True", "depth_unit": "m", "video.depth_min": "0.01", "video.depth_max": "10.0"}
    assert channel.metadata == told | {"video.shift": "3.5", "video.use_log": "True"}
    decoder = av.CodecContext.create("hevc", "r")
    packets = [av.Packet(video_message(schema).FromString(message.data).data) for _, _, message in found]
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert [frame.format.name for frame in frames] == ["gray12le"] * len(video.taken)


ADDED = {
    "next.reward": np.array([[0.1], [np.nan], [-np.inf], [5e-324]]),
    "intervention": np.array([[True], [False], [True], [True]]),
    "widest": np.array([[2**63 - 1], [-(2**63)], [-1], [0]]),
    "unsigned": np.array([[2**64 - 1], [0], [1], [2]], np.uint64),
    "half": np.array([[0.5], [-0.0], [65504.0], [np.inf]], np.float16),
    "bytes": np.arange(12, dtype=np.uint8).reshape(4, 3) + 250,
    "touch": np.float32(np.arange(16).reshape(4, 2, 2) / 3),
    "flags": np.array([[True, False]] * 4),
}
ADDED_TO = [0, 7, 8, 19]


@pytest.fixture
async def with_columns(record, add_columns):
    """A session of 20 frames, four of which have values of columns of many types."""
    session = await record(20)
    await add_columns(
        session,
        {name: (ADDED_TO, values) for name, values in ADDED.items()},
        names={"touch": {"axes": ["y", "x"]}},
    )
    return session


async def test_parquet_has_added_columns_in_their_type(backend, with_columns):
    """To the last bit; null where a frame has no value; what they are stands beside them."""
    _, folder = await backend.export(with_columns, format="parquet")
    table = pq.read_table(folder / f"session-{with_columns}/frames.parquet")
    told = pq.read_table(folder / f"session-{with_columns}/columns.parquet").to_pylist()
    assert [each["name"] for each in told] == list(ADDED)
    for about, (name, values) in zip(told, ADDED.items(), strict=True):
        assert (about["dtype"], about["shape"]) == (values.dtype.name, list(values.shape[1:]))
        column = table.column(f"columns.{name}")
        assert np.flatnonzero(column.is_valid()).tolist() == ADDED_TO
        kept = column.combine_chunks().drop_null()
        flat = kept.flatten() if pa.types.is_fixed_size_list(kept.type) else kept
        found = flat.to_numpy(zero_copy_only=False)
        assert (found.dtype, found.tobytes()) == (values.dtype, values.tobytes()), name
    assert json.loads(told[6]["names"]) == {"axes": ["y", "x"]}
    readme = (folder / "README.md").read_text()
    assert "| columns.<name> " in readme
    assert "| columns.parquet " in readme


async def test_mcap_has_added_columns_on_topics_of_their_own(backend, with_columns):
    """Each as messages of its type, at the time of the frame; a frame without a value has none."""
    _, folder = await backend.export(with_columns, format="mcap")
    path = folder / f"session-{with_columns}.mcap"
    frames = {message.sequence: message.log_time for _, _, message in messages_of(path, "/robot/state")}
    for name, values in ADDED.items():
        found = messages_of(path, f"/columns/{name}")
        assert [message.sequence for _, _, message in found] == ADDED_TO, name
        assert [message.log_time for _, _, message in found] == [frames[index] for index in ADDED_TO]
        kind = video_message(found[0][0])
        for (_, _, message), value in zip(found, values, strict=True):
            told = kind.FromString(message.data)
            assert told.timestamp.ToNanoseconds() == message.log_time
            given = [told.value] if value.shape == (1,) else told.values
            np.testing.assert_array_equal(np.array(given, value.dtype), value.ravel(), name)
    with path.open("rb") as file:
        metadata = {each.name: each.metadata for each in make_reader(file).iter_metadata()}
    assert metadata["column touch"] == {
        "dtype": "float32",
        "shape": "[2, 2]",
        "names": '{"axes": ["y", "x"]}',
    }


async def test_texts_that_a_command_added(backend, record, add_columns):
    """Strings in a table, messages with a string in MCAP; a frame without one has none."""
    session = await record(20)
    said = np.array([["집어"], [""], ['put "it"'], ["down " * 600]])
    await add_columns(session, {"said": (ADDED_TO, said)})
    _, folder = await backend.export(session, format="parquet")
    column = pq.read_table(folder / f"session-{session}/frames.parquet")["columns.said"]
    assert column.type == pa.string()
    assert {frame: text for frame, text in enumerate(column.to_pylist()) if text is not None} == dict(
        zip(ADDED_TO, said[:, 0].tolist(), strict=True)
    )
    _, folder = await backend.export(session, format="mcap")
    found = messages_of(folder / f"session-{session}.mcap", "/columns/said")
    kind = video_message(found[0][0])
    assert [message.sequence for _, _, message in found] == ADDED_TO
    assert [kind.FromString(message.data).value for _, _, message in found] == said[:, 0].tolist()


async def test_mcap_is_in_the_order_of_time(backend, record, film):
    """Joints and pictures interleaved, so that a player reads it once from front to back."""
    session = await record(120)
    await film(session, 120)
    await film(session, 120, "wrist", fps=15)
    _, folder = await backend.export(session, format="mcap")
    with (folder / f"session-{session}.mcap").open("rb") as file:
        times = [message.log_time for _, _, message in make_reader(file).iter_messages(log_time_order=False)]
    assert times == sorted(times)


async def test_cameras_may_be_chosen(backend, record, film):
    """None, some, and one that is not there."""
    session = await record(60)
    await film(session, 60)
    await film(session, 60, "wrist")
    for number, (cameras, topics) in enumerate([(["wrist"], ["/camera/wrist"]), ([], [])]):
        _, folder = await backend.export(session, format="mcap", cameras=cameras, repo_id=f"lab/n{number}")
        with (folder / f"session-{session}.mcap").open("rb") as file:
            channels = make_reader(file).get_summary().channels.values()
        assert [channel.topic for channel in channels if channel.topic.startswith("/camera")] == topics
    refusal = await backend.ask(session, status=409, format="mcap", cameras=["top"])
    assert (refusal["code"], refusal["field"]) == ("camera_missing", "cameras")


@pytest.mark.parametrize(
    "more",
    [
        {"fps": 30},
        {"split": {"train": 1.0}},
        {"streaming_safe": True},
        {"push_to_hub": {}},
        {"on_gap": "refuse"},
        {"include_outcomes": ["success"]},
        {"include_capture_time": False},
    ],
)
async def test_what_is_for_datasets_is_refused(backend, record, more):
    """By name, as is a format that there is not."""
    session = await record(10)
    refusal = await backend.ask(session, status=422, format="parquet", **more)
    assert refusal["field"] == next(iter(more))
    assert (await backend.ask(session, status=422, format="rosbag"))["field"] == "format"


async def test_raw_export_is_not_pushed(backend, record):
    """LeRobot could make nothing of it."""
    export, _ = await backend.export(await record(10), format="parquet")
    answer = await backend.http.post(f"/exports/{export['id']}/push", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_pushable")


async def test_empty_and_unfinished_sessions_are_refused(backend, record):
    """As for datasets."""
    assert (await backend.ask(await record(0), status=409, format="mcap"))["code"] == "nothing_to_export"
    recording = await record(10, status="recording")
    assert (await backend.ask(recording, status=409, format="mcap"))["code"] == "session_unfinished"
