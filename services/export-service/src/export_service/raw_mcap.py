"""A session as an MCAP file, which Foxglove and its like open: joints and video on one time line. Blocks."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import msgspec
import numpy as np
import pyarrow as pa
from av.bitstream import BitStreamFilterContext
from mcap.writer import CompressionType, Writer

from export_service.errors import VideoDiffers
from export_service.foxglove import FORMATS, SCHEMA, SCHEMA_NAME, compressed_video
from export_service.pace import Integers
from export_service.raw import RawSession
from export_service.video_source import Footage, Segment

STATE_TOPIC, ACTION_TOPIC = "/robot/state", "/robot/action"
# Bit stream filters that put start codes where mp4 has lengths, and parameter sets before keyframes.
ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}

NS_PER_US = 1_000


class Message(NamedTuple):
    """What a topic says, and when it was so: ns since the Unix epoch, the robot's clock."""

    time_ns: int
    topic: str
    data: bytes


def write_mcap(
    path: Path,
    session: RawSession,
    tables: Iterator[pa.Table],
    footages: dict[str, Footage],
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
        sequences = dict.fromkeys(channels, 0)
        written = 0
        for message in heapq.merge(*topics, key=_time_ns):
            writer.add_message(
                channel_id=channels[message.topic],
                log_time=message.time_ns,
                publish_time=message.time_ns,
                sequence=sequences[message.topic],
                data=message.data,
            )
            sequences[message.topic] += 1
            if message.topic != ACTION_TOPIC:
                written += 1
                advance(written)
        cast(Any, writer).finish()


def video_topic(camera: str) -> str:
    return f"/camera/{camera}"


def _time_ns(message: Message) -> int:
    return message.time_ns


def _channels(writer: Writer, session: RawSession) -> dict[str, int]:
    """Number of each topic's channel."""
    found = {}
    for topic, names in ((STATE_TOPIC, session.state_names), (ACTION_TOPIC, session.action_names)):
        if names:
            schema = writer.register_schema("lerobot.Joints", "jsonschema", _joint_schema(names))
            found[topic] = writer.register_channel(topic, "json", schema)
    video = writer.register_schema(SCHEMA_NAME, "protobuf", SCHEMA) if session.footage else 0
    for camera in session.footage:
        found[video_topic(camera)] = writer.register_channel(video_topic(camera), "protobuf", video)
    return found


def _joint_schema(names: Sequence[str]) -> bytes:
    joints = {name: {"type": ["number", "null"]} for name in names}
    properties = {"frame_index": {"type": "integer"}, "joints": {"type": "object", "properties": joints}}
    return msgspec.json.encode({"type": "object", "properties": properties})


def _add_metadata(writer: Writer, session: RawSession) -> None:
    writer.add_metadata(
        "session",
        {
            "session_id": str(session.session_id),
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
                "outcome": episode.outcome or "",
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
        for frame, time_us, state, action in zip(index, times_us, states, actions, strict=True):
            time_ns = time_us * NS_PER_US
            if session.state_names:
                yield Message(time_ns, STATE_TOPIC, _joint_values(frame, session.state_names, state))
            if session.action_names:
                yield Message(time_ns, ACTION_TOPIC, _joint_values(frame, session.action_names, action))


def _joint_values(frame: int, names: Sequence[str], values: Sequence[float]) -> bytes:
    joints = dict(zip(names, values, strict=True))
    return msgspec.json.encode({"frame_index": frame, "joints": joints})


def _pictures(camera: str, footage: Footage) -> Iterator[Message]:
    captured_us = footage.pictures.captured_us
    number = 0
    for segment, numbers in footage.parts(np.arange(len(captured_us))):
        if not segment.in_order or segment.kind.codec not in FORMATS:
            raise VideoDiffers(
                f"the video of camera {camera} ({segment.kind.codec}) can't be shown picture by picture",
                field="cameras",
                hint="leave the camera out: name the others in cameras",
            )
        for data in _packets(segment, numbers):
            time_us = int(captured_us[number])
            content = compressed_video(time_us, camera, data, FORMATS[segment.kind.codec])
            yield Message(time_us * NS_PER_US, video_topic(camera), content)
            number += 1


def _packets(segment: Segment, numbers: Integers) -> Iterator[bytes]:
    """Each picture's packet, as a decoder takes it that knows nothing but packets."""
    name = ANNEX_B.get(segment.kind.codec)
    if name is None:
        yield from (bytes(data) for _, data in segment.packets(numbers))
        return
    with av.open(str(segment.path)) as file:
        converter: Any = BitStreamFilterContext(name, file.streams.video[0])
        for number, data in segment.packets(numbers):
            packet = av.Packet(data)
            packet.is_keyframe = bool(segment.keyframe[number])
            for converted in converter.filter(packet):
                yield bytes(converted)
