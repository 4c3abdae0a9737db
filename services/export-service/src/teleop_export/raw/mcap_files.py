"""A session as an MCAP file, which Foxglove and its like open: joints and video on one time line. Blocks."""

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from mcap.writer import CompressionType, Writer
from teleop_dataset.v3.depth import depth_info
from teleop_runtime.postgres.columns import unpack
from teleop_schema.columns import Column
from teleop_schema.depth import DepthUnit

from teleop_export.errors import VideoDiffers
from teleop_export.making.video_source import CameraPictures
from teleop_export.planning.raw_session import RawSession, told_tasks
from teleop_export.raw.foxglove import (
    FORMATS,
    JOINTS_NAME,
    JOINTS_SCHEMA,
    VIDEO_NAME,
    VIDEO_SCHEMA,
    compressed_video,
    joint_states,
    text_message,
    value_message,
    value_schema,
)

STATE_TOPIC, ACTION_TOPIC = "/robot/state", "/robot/action"
NS_PER_US = 1_000
# MCAP numbers messages with 32 bits.
_SEQUENCES = 1 << 32


class Message(NamedTuple):
    """What a topic says, and when it was so.

    time_ns   since the Unix epoch, the robot's clock
    sequence  of joints the frame's number, of pictures their own
    """

    time_ns: int
    topic: str
    sequence: int
    data: bytes


def write_mcap(
    path: Path,
    session: RawSession,
    tables: Iterator[pa.Table],
    footages: dict[str, CameraPictures],
    advance: Callable[[int], None],
) -> None:
    """Write all messages in the order of their times, as far as each topic's own are in order.

    tables   the session's frames, some at a time
    advance  told the frames written so far, of joints and pictures together; may raise to stop
    """
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.LZ4)
        writer.start()
        channels = _channels(writer, session)
        _add_metadata(writer, session)
        topics = [_joints(session, tables)]
        topics += [_pictures(camera, footage) for camera, footage in footages.items()]
        pictured = {video_topic(camera) for camera in footages}
        written = 0
        # Readers play a file from its beginning, so messages of all topics lie by time; a merge holds one of
        # each.
        for message in heapq.merge(*topics, key=_time_ns):
            writer.add_message(
                channel_id=channels[message.topic],
                log_time=message.time_ns,
                publish_time=message.time_ns,
                sequence=message.sequence % _SEQUENCES,
                data=message.data,
            )
            if message.topic == STATE_TOPIC or message.topic in pictured:
                written += 1
                advance(written)
        cast(Any, writer).finish()


def video_topic(camera: str) -> str:
    """Where a camera's pictures are told."""
    return f"/camera/{camera}"


def column_topic(name: str) -> str:
    """Where an added column's values are told."""
    return f"/columns/{name}"


def _time_ns(message: Message) -> int:
    return message.time_ns


def _channels(writer: Writer, session: RawSession) -> dict[str, int]:
    """Number of each topic's channel."""
    found = {}
    joints = writer.register_schema(JOINTS_NAME, "protobuf", JOINTS_SCHEMA)
    for topic, names in ((STATE_TOPIC, session.state_names), (ACTION_TOPIC, session.action_names)):
        if names:
            found[topic] = writer.register_channel(topic, "protobuf", joints)
    video = writer.register_schema(VIDEO_NAME, "protobuf", VIDEO_SCHEMA) if session.footage else 0
    for camera, footage in session.footage.items():
        topic, about = video_topic(camera), _about(footage.depth_unit)
        found[topic] = writer.register_channel(topic, "protobuf", video, metadata=about)
    schemas: dict[str, int] = {}
    for column in session.columns:
        name, schema = value_schema(column.dtype, single=column.shape == (1,))
        # Columns of one type share a schema.
        if name not in schemas:
            schemas[name] = writer.register_schema(name, "protobuf", schema)
        topic = column_topic(column.name)
        found[topic] = writer.register_channel(topic, "protobuf", schemas[name])
    return found


def _about(unit: DepthUnit | None) -> dict[str, str]:
    """What a channel of depth needs to be told, as info.json of a dataset has it."""
    return {} if unit is None else {name: str(value) for name, value in depth_info(unit).items()}


def _add_metadata(writer: Writer, session: RawSession) -> None:
    writer.add_metadata(
        "session",
        {
            "session_id": str(session.session_id),
            "robot_id": session.robot_id,
            "robot_type": session.robot_type,
            "fps": f"{session.fps:g}",
            "task": session.task or "",
            "frames": str(session.committed),
        },
    )
    for episode in session.episodes:
        writer.add_metadata(
            f"episode {episode.index}",
            {
                "first_frame": str(episode.first),
                "end_frame": "" if episode.end is None else str(episode.end),
                "task": episode.task or "",
                "tasks": json.dumps(told_tasks(episode, session)),
                "outcome": episode.outcome or "",
                "reason": episode.judged.reason or "",
                "quality": "" if episode.judged.quality is None else str(episode.judged.quality),
                "tags": json.dumps(episode.judged.tags, ensure_ascii=False),
                "operator": episode.judged.operator or "",
            },
        )
    if session.pauses:
        writer.add_metadata("pauses", {"frames": json.dumps(session.pauses)})
    for column in session.columns:
        writer.add_metadata(
            f"column {column.name}",
            {
                "dtype": column.dtype,
                "shape": json.dumps(column.shape),
                "names": json.dumps(column.names),
            },
        )
    for number, gap in enumerate(session.gaps):
        writer.add_metadata(
            f"gap {number}",
            {"first_frame": str(gap.first), "end_frame": str(gap.end), "reason": gap.reason},
        )


def _joints(session: RawSession, tables: Iterator[pa.Table]) -> Iterator[Message]:
    for table in tables:
        index = table.column("frame_index").to_pylist()
        times_us = table.column("timestamp").cast(pa.int64()).to_pylist()
        states, actions = table.column("state").to_pylist(), table.column("action").to_pylist()
        columns = [
            _values(column, array)
            for column, array in zip(
                session.columns, unpack(table.column("columns"), session.columns), strict=True
            )
        ]
        for frame, time_us, state, action in zip(index, times_us, states, actions, strict=True):
            for topic, names, values in (
                (STATE_TOPIC, session.state_names, state),
                (ACTION_TOPIC, session.action_names, action),
            ):
                if names:
                    yield Message(time_us * NS_PER_US, topic, frame, joint_states(time_us, names, values))
            for each in columns:
                if next(each.present):
                    yield Message(time_us * NS_PER_US, each.topic, frame, each.message(time_us))


@dataclass(frozen=True)
class _Values:
    """A column's values of some frames.

    present  whether the next frame has one
    values   the next one of those that there are
    """

    topic: str
    single: bool
    present: Iterator[bool]
    values: Iterator[npt.NDArray[Any] | str]

    def message(self, taken_us: int) -> bytes:
        """The next value."""
        value = next(self.values)
        if isinstance(value, str):
            return text_message(taken_us, value)
        return value_message(taken_us, value, single=self.single)


def _values(column: Column, array: pa.Array) -> _Values:
    some = array.drop_null() if array.null_count else array
    topic, single = column_topic(column.name), column.shape == (1,)
    present = iter(array.is_valid().to_pylist())
    if column.is_text:
        return _Values(topic, single, present, iter(some.to_pylist()))
    flat = some.flatten() if isinstance(some, pa.FixedSizeListArray) else some
    values = flat.to_numpy(zero_copy_only=False).reshape(len(some), column.values)
    return _Values(topic, single, present, iter(values))


def _pictures(camera: str, footage: CameraPictures) -> Iterator[Message]:
    captured_us = footage.pictures.captured_us
    number = 0
    for segment, numbers in footage.parts(np.arange(len(captured_us))):
        if not segment.in_order or segment.kind.codec not in FORMATS:
            raise VideoDiffers(
                f"the video of camera {camera} ({segment.kind.codec}) can't be shown picture by picture",
                field="cameras",
                hint="leave the camera out by naming the others in `cameras`",
            )
        for data in segment.converted(numbers):
            time_us = int(captured_us[number])
            content = compressed_video(time_us, camera, data, FORMATS[segment.kind.codec])
            yield Message(time_us * NS_PER_US, video_topic(camera), number, content)
            number += 1
