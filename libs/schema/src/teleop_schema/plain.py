"""Frames of the plain mode, which any WebSocket client can send to `/ws/log/{robot_id}` as JSON text."""

import json
import math
import re
from collections.abc import Generator, Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from teleop_schema.decoding import DECODE_ERRORS, explain, field_of
from teleop_schema.errors import BadMessage
from teleop_schema.limits import FIRST_US, LAST_US, MAX_FRAMES_PER_BATCH, MAX_NAME_LENGTH, MAX_VECTOR_VALUES

# More digits than a 64-bit number has.
MAX_DIGITS = 20
# Messages of at least this many characters are read this many frames at a time, in 0.2 ms.
FRAMES_AT_ONCE, LONG = 64, 16 * 1024
_NAME = re.compile(rf"[^\x00-\x1f]{{1,{MAX_NAME_LENGTH}}}")
UNWANTED_MARK = "the message begins with a byte order mark; send plain UTF-8 JSON"


# Values that become a float32: true and false become 1 and 0, null becomes NaN.
type Value = float | bool | Literal["Infinity", "-Infinity"] | None


class PlainFrame(Struct, frozen=True, forbid_unknown_fields=True):
    """One sample.

    observation, action  name -> value, for example {"shoulder_pan.pos": 1.5}; names that the first frame had
                         and this one lacks are NaN
    timestamp            s since the Unix epoch; None: the time of arrival; several frames in a message are
                         spread evenly since the message before, at most one declared period apart
    observation_age_us   for an action without a new observation:
                         how long before the frame's time the repeated
                         observation was taken, us; 0: the observation is the frame's own
    """

    observation: dict[str, Value]
    action: dict[str, Value] = {}
    timestamp: float | None = None
    observation_age_us: Annotated[int, Meta(ge=0, le=2**62)] = 0


type _Message = PlainFrame | list[PlainFrame]
_decoder = msgspec.json.Decoder(_Message)
_frame_decoder = msgspec.json.Decoder(PlainFrame)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
# Names of JSON values, by the types of Python's parser.
_KINDS = {str: "a string", list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


def decode_plain(text: str) -> list[PlainFrame]:
    """Frames of one text message, which is one object or an array of objects.

    Raises BadMessage naming the field; then none of the message's frames must be stored.
    """
    try:
        decoded = _decoder.decode(text)
    except DECODE_ERRORS as error:
        decoded = _decode_leniently(text, error)
    frames = decoded if isinstance(decoded, list) else [decoded]
    if not 1 <= len(frames) <= MAX_FRAMES_PER_BATCH:
        raise BadMessage(
            f"a message holds 1 to {MAX_FRAMES_PER_BATCH} frames, this one holds {len(frames)}",
            field="frames",
            limit=MAX_FRAMES_PER_BATCH,
        )
    good: set[str] = set()
    for number, frame in enumerate(frames):
        _check(frame, f"[{number}]." if isinstance(decoded, list) else "", good)
    return frames


def decoding_plain(text: str) -> Generator[float, None, list[PlainFrame]]:
    """The same in steps, because decoding a message with many frames at once would hold up everybody else.

    Yields for each step which part of the work it was; returns or raises what `decode_plain` does.
    """
    if len(text) < LONG:
        return decode_plain(text)
    try:
        parts = _list_decoder.decode(text)
        if not 1 <= len(parts) <= MAX_FRAMES_PER_BATCH:
            return decode_plain(text)
        frames: list[PlainFrame] = []
        good: set[str] = set()
        while len(frames) < len(parts):
            some = parts[len(frames) : len(frames) + FRAMES_AT_ONCE]
            for part in some:
                frame = _frame_decoder.decode(part)
                _check(frame, "", good)
                frames.append(frame)
            yield len(some) / len(parts)
    except (*DECODE_ERRORS, BadMessage):
        # What is wrong, and where, only the whole message tells; and it may be one frame, or all in order
        # but for numbers that JSON does not know.
        return decode_plain(text)
    return frames


def _check(frame: PlainFrame, where: str, good: set[str]) -> None:
    """`good`: names in the message that are valid; thousands of frames have the same names."""
    for part, values in (("observation", frame.observation), ("action", frame.action)):
        if len(values) > MAX_VECTOR_VALUES:
            raise BadMessage(
                f"{where}{part} has {len(values)} values, the limit is {MAX_VECTOR_VALUES}",
                field=where + part,
                limit=MAX_VECTOR_VALUES,
            )
        if not values.keys() <= good:
            _check_names(values, where + part)
            good.update(values)
    if not frame.observation:
        raise BadMessage("observation is empty", field=where + "observation")
    if frame.timestamp is not None and not FIRST_US <= frame.timestamp * 1e6 <= LAST_US:
        raise BadMessage(
            (
                f"timestamp {frame.timestamp} is not in seconds since the Unix epoch, between "
                "the years 1 and 9999"
            ),
            field=where + "timestamp",
        )


def _check_names(values: Iterable[str], where: str) -> None:
    for name in values:
        if not _NAME.fullmatch(name):
            raise BadMessage(
                f"{where} has the name {name[:MAX_NAME_LENGTH]!r}",
                field=where,
                hint=f"a name is 1 to {MAX_NAME_LENGTH} characters, none of them a control character",
            )


def _decode_leniently(text: str, error: Exception) -> PlainFrame | list[PlainFrame]:
    """The frames in what is no JSON but that it has numbers which JSON does not know: NaN, Infinity, 1e999.

    Python's own parser reads them, and its json.dumps writes them. Raises BadMessage, of `error` where that
    does not help.
    """
    told = None
    try:
        read = json.loads(text, parse_int=_whole)
        field, told = next(_culprits(read), (None, None))
        if field is None:
            msgspec.json.encode(read)  # raises for a lone surrogate, which Python accepts
            frames: PlainFrame | list[PlainFrame] = msgspec.convert(read, _Message)
            return frames
    except msgspec.MsgspecError as second:
        error, field = second, field_of(second)
    except (ValueError, RecursionError):
        field = field_of(error)
    if text.startswith("\ufeff"):
        told = UNWANTED_MARK
    field = field and field.encode(errors="replace").decode()
    raise BadMessage(told or explain(error, field or "the message"), field=field) from error


def _whole(digits: str) -> int | float:
    """An int, except for thousands of digits, which Python refuses to read."""
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


def _culprits(read: Any) -> Iterator[tuple[str, str | None]]:
    """Paths of values that no frame may have, and the error text for each."""
    if isinstance(read, list):
        for number, frame in enumerate(read):
            yield from _culprits_of(frame, f"[{number}].")
    else:
        yield from _culprits_of(read, "")


def _culprits_of(frame: Any, where: str) -> Iterator[tuple[str, str | None]]:
    if not isinstance(frame, dict):
        yield where.rstrip(".") or "frame", None
        return
    for part, content in frame.items():
        if part in ("observation", "action"):
            if not isinstance(content, dict):
                yield where + part, None
                continue
            for name, value in content.items():
                if not _is_value(value):
                    path = f"{where}{part}.{name}"
                    yield path, f"{path} must be a number, not {_KINDS[type(value)]}"
        elif part == "timestamp":
            if content is not None and not _is_time(content):
                yield where + part, None
        elif part != "observation_age_us":
            yield where + str(part), None
    if "observation" not in frame:
        yield where + "observation", None


def _is_value(value: Any) -> bool:
    return value is None or isinstance(value, float | int) or value in ("Infinity", "-Infinity")


def _is_time(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
