"""What a frame carries beyond its vectors, brought into a form that every database takes."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from lerobot_robot_backend.spool.record import MAX_TAIL_BYTES
from lerobot_robot_backend.spool.values import differ

# Beyond that it is a picture, a depth map or a mistake, and does not belong into a sample's JSON.
_MAX_ARRAY_VALUES = 1024
# What nests deeper is no measurement.
_MAX_DEPTH = 8
_INT64 = 2**63
# As everywhere where JSON is spoken.
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def encode_extra(extra: Mapping[str, Any]) -> bytes:
    """MessagePack map of `extra`.

    NaN becomes null, infinities text, arrays lists; of what can't be kept (a picture, an object, more than
    MAX_TAIL_BYTES) its description is kept: a strange value must not cost the frame.
    """
    encoded = msgspec.msgpack.encode(_storable(extra, 0))
    if len(encoded) > MAX_TAIL_BYTES:
        names = ", ".join(map(str, extra))[:1000]
        note = f"{len(encoded)} bytes of {names}; the limit is {MAX_TAIL_BYTES}"
        encoded = msgspec.msgpack.encode({"not_recorded": _clean(note)})
    return encoded


def encode_all_extra(
    observation: Mapping[str, Any],
    action: Mapping[str, Any],
    known: tuple[frozenset[str], frozenset[str]],
    sent_action: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None,
) -> bytes:
    """What a frame has beyond the known names of observation and action; nothing if there is nothing."""
    beyond = dict(extra or {})
    if sent_action is not None and differ(sent_action, action):
        beyond["sent_action"] = sent_action
    for part, given, names in (("observation", observation, known[0]), ("action", action, known[1])):
        if strangers := given.keys() - names:
            beyond[part] = {name: given[name] for name in sorted(strangers)}
    return encode_extra(beyond) if beyond else b""


def _storable(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, float):
        return _NOT_FINITE.get(float(value), float(value)) if not math.isnan(value) else None
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else str(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {_clean(str(name)): _storable(inner, depth + 1) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [_storable(inner, depth + 1) for inner in value[:_MAX_ARRAY_VALUES]]
        if hasattr(value, "tolist") and math.prod(getattr(value, "shape", ())) <= _MAX_ARRAY_VALUES:
            return _storable(value.tolist(), depth + 1)
    shape = getattr(value, "shape", None)
    kind = type(value).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
    return f"<{kind}: not recorded>"


def _clean(text: str) -> str:
    """Text without what PostgreSQL or UTF-8 refuse: NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
