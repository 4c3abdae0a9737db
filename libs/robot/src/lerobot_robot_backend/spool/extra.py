"""Converts what a frame has beyond its vectors into a form that every database accepts."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from lerobot_robot_backend.spool.record import MAX_TAIL_BYTES
from lerobot_robot_backend.spool.values import differ

# A larger value is a picture, a depth map or a mistake, and does not belong in a sample's JSON.
_MAX_ARRAY_VALUES = 1024
# A value that nests deeper is not a measurement.
_MAX_DEPTH = 8
# Not every reader of JSON keeps larger integers, so they become text.
_INT64 = 2**63
# JSON has no words for them.
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def encode_extra(extra: Mapping[str, Any]) -> bytes:
    """MessagePack map of `extra`.

    NaN becomes null, infinities become text, arrays become lists. A value that can't be kept (a picture, an
    object, more than MAX_TAIL_BYTES) is replaced by its description: a strange value must not cost the frame.
    """
    encoded = msgspec.msgpack.encode(_storable(extra, 0))
    if len(encoded) > MAX_TAIL_BYTES:
        # The names alone tell which value was too large; the note itself must stay small.
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
    """The values of a frame beyond the known names of observation and action; empty if there are none."""
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
    """The text without what PostgreSQL or UTF-8 do not allow: NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
