"""Frames of the plain mode: what any WebSocket client may send to `/ws/log/{robot_id}` as JSON text."""

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from teleop_schema.decoding import DECODE_ERRORS, explain, field_of
from teleop_schema.errors import BadMessage
from teleop_schema.limits import MAX_FRAMES_PER_BATCH, MAX_NAME_LENGTH, MAX_VECTOR_VALUES

FLOAT32_MAX = 3.4028234663852886e38
YEAR_1_S = -62_135_596_800
YEAR_10000_S = 253_402_300_800
UNWANTED_MARK = "the message begins with a byte order mark; send plain UTF-8 JSON"


class PlainFrame(Struct, frozen=True, forbid_unknown_fields=True):
    """One sample.

    observation, action  name -> value, for example {"shoulder_pan.pos": 1.5}
    timestamp            s since the Unix epoch; None: the time of arrival
    observation_age_us   of an action that follows without a new observation: how long before the frame's time
                         the repeated one was taken, us; 0: the observation is the frame's own
    """

    observation: dict[str, float]
    action: dict[str, float] = {}
    timestamp: float | None = None
    observation_age_us: Annotated[int, Meta(ge=0, le=2**62)] = 0


_decoder = msgspec.json.Decoder(PlainFrame | list[PlainFrame])


def decode_plain(text: str) -> list[PlainFrame]:
    """Frames of one text message, one object or an array of them, every value a finite float32.

    Raises BadMessage naming the field; then none of the message's frames is to be stored.
    """
    try:
        decoded = _decoder.decode(text)
    except DECODE_ERRORS as error:
        field = _find_culprit(text) or field_of(error)
        told = UNWANTED_MARK if text.startswith("\ufeff") else explain(error, field or "the message")
        raise BadMessage(told, field=field) from error
    frames = decoded if isinstance(decoded, list) else [decoded]
    if not 1 <= len(frames) <= MAX_FRAMES_PER_BATCH:
        raise BadMessage(
            f"a message holds 1 to {MAX_FRAMES_PER_BATCH} frames, this one {len(frames)}",
            field="frames",
            limit=MAX_FRAMES_PER_BATCH,
        )
    for number, frame in enumerate(frames):
        _check_values(frame, f"[{number}]." if isinstance(decoded, list) else "")
    return frames


def _check_values(frame: PlainFrame, where: str) -> None:
    for part, values in (("observation", frame.observation), ("action", frame.action)):
        if len(values) > MAX_VECTOR_VALUES:
            raise BadMessage(
                f"{where}{part} has {len(values)} values, at most {MAX_VECTOR_VALUES} are taken",
                field=where + part,
                limit=MAX_VECTOR_VALUES,
            )
        for name, value in values.items():
            if not 1 <= len(name) <= MAX_NAME_LENGTH or any(letter < " " for letter in name):
                raise BadMessage(
                    f"{where}{part} has the name {name[:MAX_NAME_LENGTH]!r}",
                    field=where + part,
                    hint=f"a name is 1 to {MAX_NAME_LENGTH} characters, none of them a control character",
                )
            if not abs(value) <= FLOAT32_MAX:
                raise BadMessage(f"{value} does not fit a float32", field=f"{where}{part}.{name}")
    if not frame.observation:
        raise BadMessage("observation is empty", field=where + "observation")
    if frame.timestamp is not None and not YEAR_1_S <= frame.timestamp < YEAR_10000_S:
        raise BadMessage(
            f"timestamp {frame.timestamp} is not seconds since the Unix epoch, years 1 to 9999",
            field=where + "timestamp",
        )


def _find_culprit(text: str) -> str | None:
    """Path of the first value that no frame may hold, None if the text is no JSON at all.

    Python's own parser also reads what JSON does not know (NaN, Infinity, 1e999), so that it can be named.
    """
    try:
        decoded = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return None
    frames = [("", decoded)]
    if isinstance(decoded, list):
        frames = [(f"[{number}].", frame) for number, frame in enumerate(decoded)]
    found = next((path for where, frame in frames for path in _culprits(frame, where)), None)
    return found and found.encode(errors="replace").decode()


def _culprits(frame: Any, where: str) -> Iterator[str]:
    if not isinstance(frame, dict):
        yield where.rstrip(".") or "frame"
        return
    for part, content in frame.items():
        if part in ("observation", "action"):
            if not isinstance(content, dict):
                yield where + part
                continue
            yield from (f"{where}{part}.{name}" for name, value in content.items() if not _is_number(value))
        elif part == "timestamp":
            if content is not None and not _is_number(content):
                yield where + part
        else:
            yield where + str(part)
    if "observation" not in frame:
        yield where + "observation"


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
