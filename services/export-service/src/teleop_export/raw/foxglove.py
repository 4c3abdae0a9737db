"""Compressed pictures and joints as Foxglove's protobuf messages, and other values as messages like them,
without protobuf. Pure.

The messages: https://docs.foxglove.dev/docs/sdk/schemas/compressed-video and …/joint-states. An MCAP file
carries its schema as a FileDescriptorSet: https://mcap.dev/spec/registry#protobuf. How both are encoded:
https://protobuf.dev/programming-guides/encoding and google/protobuf/descriptor.proto.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt

VIDEO_NAME, JOINTS_NAME = "foxglove.CompressedVideo", "foxglove.JointStates"
# What Foxglove calls the codecs that FFmpeg names like this.
FORMATS = {"h264": "h264", "hevc": "h265", "av1": "av1", "vp9": "vp9"}

_US_PER_S, _NS_PER_US = 1_000_000, 1_000
_VARINT, _DOUBLE_BITS, _LENGTH, _FLOAT_BITS = 0, 1, 2, 5
_DOUBLE, _FLOAT, _INT32, _INT64, _UINT32, _UINT64, _BOOL = 1, 2, 5, 3, 13, 4, 8
_STRING, _BYTES, _MESSAGE = 9, 12, 11
# What protobuf has for each of numpy's types, and for texts; every value of it is exact there.
_KINDS = {
    "bool": ("Bool", _BOOL),
    "int8": ("Int32", _INT32),
    "int16": ("Int32", _INT32),
    "int32": ("Int32", _INT32),
    "int64": ("Int64", _INT64),
    "uint8": ("UInt32", _UINT32),
    "uint16": ("UInt32", _UINT32),
    "uint32": ("UInt32", _UINT32),
    "uint64": ("UInt64", _UINT64),
    "float16": ("Float", _FLOAT),
    "float32": ("Float", _FLOAT),
    "float64": ("Double", _DOUBLE),
    "string": ("String", _STRING),
}
_OPTIONAL, _REPEATED = 1, 3


def compressed_video(captured_us: int, camera: str, data: bytes, codec_format: str) -> bytes:
    """One picture.

    captured_us  when it was taken, us since the Unix epoch
    data         its packet, Annex B where that exists
    """
    return (
        _timestamp(captured_us)
        + _bytes(2, camera.encode())
        + _bytes(3, data)
        + _bytes(4, codec_format.encode())
    )


def joint_states(taken_us: int, names: Sequence[str], values: Sequence[float]) -> bytes:
    """One sample: a position for each name, in the robot's own unit.

    taken_us  us since the Unix epoch
    """
    joints = (
        _bytes(2, _bytes(1, name.encode()) + _double(2, value))
        for name, value in zip(names, values, strict=True)
    )
    return _timestamp(taken_us) + b"".join(joints)


def value_message(taken_us: int, values: npt.NDArray[Any], *, single: bool) -> bytes:
    """One sample's value of a column, or all of its values if it is not a single one.

    taken_us  us since the Unix epoch
    values    (N,)
    """
    if values.dtype.kind == "f":
        wide = values.astype("<f8" if values.dtype.itemsize > 4 else "<f4", copy=False)
        bits = _DOUBLE_BITS if wide.itemsize > 4 else _FLOAT_BITS
        content = wide.tobytes()
    else:
        bits, content = _VARINT, b"".join(map(_varint, values.tolist()))
    told = _varint(2 << 3 | bits) + content if single else _bytes(2, content)
    return _timestamp(taken_us) + told


def text_message(taken_us: int, text: str) -> bytes:
    """One sample's text of a column.

    taken_us  us since the Unix epoch
    """
    return _timestamp(taken_us) + _bytes(2, text.encode())


def value_schema(dtype: str, *, single: bool) -> tuple[str, bytes]:
    """Name and schema of such messages."""
    name, kind = _KINDS[dtype]
    message = f"{name}Value" if single else f"{name}Values"
    field = _field("value", 2, kind) if single else _field("values", 2, kind, label=_REPEATED)
    fields = [_field("timestamp", 1, _MESSAGE, ".google.protobuf.Timestamp"), field]
    imports = ["google/protobuf/timestamp.proto"]
    described = _file(f"lerobot_backend/{message}.proto", "lerobot_backend", message, fields, imports)
    return f"lerobot_backend.{message}", _bytes(1, _TIMESTAMP) + _bytes(1, described)


def _timestamp(us: int) -> bytes:
    seconds, rest_us = divmod(us, _US_PER_S)
    return _bytes(1, _number(1, seconds) + _number(2, rest_us * _NS_PER_US))


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # a moment before 1970 is a negative number, in two's complement
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _DOUBLE_BITS) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH) + _varint(len(value)) + value


def _field(name: str, number: int, kind: int, type_name: str = "", *, label: int = _OPTIONAL) -> bytes:
    """A FieldDescriptorProto."""
    found = _bytes(1, name.encode()) + _number(3, number) + _number(4, label) + _number(5, kind)
    return found + (_bytes(6, type_name.encode()) if type_name else b"")


def _file(
    name: str, package: str, message: str, fields: Iterable[bytes], imports: Iterable[str] = ()
) -> bytes:
    """A FileDescriptorProto with one message."""
    described = _bytes(1, message.encode()) + b"".join(_bytes(2, field) for field in fields)
    return (
        _bytes(1, name.encode())
        + _bytes(2, package.encode())
        + b"".join(_bytes(3, each.encode()) for each in imports)
        + _bytes(4, described)
        + _bytes(12, b"proto3")
    )


_TIMESTAMP = _file(
    "google/protobuf/timestamp.proto",
    "google.protobuf",
    "Timestamp",
    [_field("seconds", 1, _INT64), _field("nanos", 2, _INT32)],
)
_VIDEO = _file(
    "foxglove/CompressedVideo.proto",
    "foxglove",
    "CompressedVideo",
    [
        _field("timestamp", 1, _MESSAGE, ".google.protobuf.Timestamp"),
        _field("frame_id", 2, _STRING),
        _field("data", 3, _BYTES),
        _field("format", 4, _STRING),
    ],
    ["google/protobuf/timestamp.proto"],
)
_JOINT = _file(
    "foxglove/JointState.proto",
    "foxglove",
    "JointState",
    [_field("name", 1, _STRING), _field("position", 2, _DOUBLE)],
)
_JOINTS = _file(
    "foxglove/JointStates.proto",
    "foxglove",
    "JointStates",
    [
        _field("timestamp", 1, _MESSAGE, ".google.protobuf.Timestamp"),
        _field("joints", 2, _MESSAGE, ".foxglove.JointState", label=_REPEATED),
    ],
    ["google/protobuf/timestamp.proto", "foxglove/JointState.proto"],
)
VIDEO_SCHEMA = _bytes(1, _TIMESTAMP) + _bytes(1, _VIDEO)
JOINTS_SCHEMA = _bytes(1, _TIMESTAMP) + _bytes(1, _JOINT) + _bytes(1, _JOINTS)
