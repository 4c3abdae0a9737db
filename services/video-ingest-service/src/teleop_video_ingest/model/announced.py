"""What a client says about a file in named texts (tus metadata, form fields), before or after its bytes."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from teleop_schema.decoding import DECODE_ERRORS, explain, field_of
from teleop_schema.errors import BadInput
from teleop_schema.files import MAX_FILE_BYTES, MAX_VIDEO_CHUNK_BYTES, DatasetFile, VideoFile

# The fields of VideoFile and DatasetFile, with times as people write them.
VIDEO_FIELDS = (
    "robot_id", "session", "camera_key", "chunk_index", "start_timestamp", "end_timestamp",
)  # fmt: skip
VIDEO_OPTIONS = ("sha256", "frames", "dropped", "fps", "height", "width", "depth_unit")
DATASET_FIELDS = ("robot_id", "dataset", "path")
DATASET_OPTIONS = ("sha256",)
LIMITS = {"video": MAX_VIDEO_CHUNK_BYTES, "dataset": MAX_FILE_BYTES}
# For values that are not known before the bytes have arrived.
SOME_SHA256 = "0" * 64
# Fields of VideoFile that a client sends under another name.
_TOLD = {"start_us": "start_timestamp", "end_us": "end_timestamp"}

_SECONDS = re.compile(r"-?\d{1,12}(\.\d{1,12})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_US = 1_000_000

# VideoFile or DatasetFile as JSON knows it, possibly without `sha256`, always without `size_bytes`.
type Announced = dict[str, Any]


def required_fields(kind: str) -> tuple[str, ...]:
    """Names that a client must send for a file of this kind."""
    return VIDEO_FIELDS if kind == "video" else DATASET_FIELDS


def allowed_fields(kind: str) -> frozenset[str]:
    """Names that a client may send for a file of this kind."""
    options = VIDEO_OPTIONS if kind == "video" else DATASET_OPTIONS
    return frozenset({*required_fields(kind), *options})


def from_metadata(metadata: Mapping[str, str]) -> Announced:
    """Reads tus metadata; ignores keys that clients add by themselves ("filetype").

    `kind` is "video" or "dataset"; without it, what names a session is video. `filename`, which Uppy-like
    clients send, stands for `path`.
    """
    kind = metadata.get("kind") or ("video" if "session" in metadata else "dataset")
    if kind not in LIMITS:
        raise BadInput(f"kind {kind[:50]!r} is neither video nor dataset", field="kind")
    fields = {name: metadata[name] for name in allowed_fields(kind) if name in metadata}
    if kind == "dataset" and "path" not in fields and "filename" in metadata:
        fields["path"] = metadata["filename"]
    return from_fields(kind, fields)


def from_fields(kind: str, fields: Mapping[str, str]) -> Announced:
    """Reads the fields; raises BadInput naming the first one that is missing or wrong."""
    for name in required_fields(kind):
        if not fields.get(name):
            raise BadInput(f"{name} is missing", field=name, hint=f"a {kind} file needs {name}")
    for name, text in fields.items():
        if "\0" in text:
            raise BadInput(f"{name} holds a NUL character", field=name)
    announced: Announced = {"kind": kind, **{name: text for name, text in fields.items() if text}}
    if "sha256" in announced:
        announced["sha256"] = announced["sha256"].lower()
    if kind == "video":
        _read_video_fields(announced)
    complete(announced, size_bytes=1, sha256=announced.get("sha256", SOME_SHA256))
    return announced


def complete(announced: Announced, *, size_bytes: int, sha256: str) -> VideoFile | DatasetFile:
    """The file, now that its bytes are known; raises BadInput naming a field that is wrong."""
    try:
        return msgspec.convert(
            {**announced, "size_bytes": size_bytes, "sha256": sha256},
            VideoFile | DatasetFile,
            strict=False,
        )
    except DECODE_ERRORS as error:
        field = field_of(error) or ""
        told = _TOLD.get(field, field)
        raise BadInput(explain(error, told or "the file"), field=told or None) from error


def _read_video_fields(announced: Announced) -> None:
    session = announced["session"]
    if _WHOLE.fullmatch(session):
        announced["session"] = int(session)
    else:
        try:
            UUID(session)
        except ValueError:
            raise BadInput(
                f"session {session[:50]!r} is neither a number nor the uuid of a stream", field="session"
            ) from None
    for edge in ("start", "end"):
        announced[f"{edge}_us"] = _read_time(announced.pop(f"{edge}_timestamp"), f"{edge}_timestamp")
    for name in ("frames", "dropped"):
        if name in announced:
            try:
                announced[name] = msgspec.json.decode(announced[name])
            except DECODE_ERRORS as error:
                raise BadInput(explain(error, name), field=name) from None


def _read_time(text: str, field: str) -> int:
    """us since the Unix epoch."""
    if _SECONDS.fullmatch(text):
        return int((Decimal(text) * _US).to_integral_value())
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadInput(
            f"{field} {text[:50]!r} is not a time with a time zone",
            field=field,
            hint="ISO 8601 with a zone (2026-11-23T05:53:00.5Z), or seconds since 1970 (1795413180.5)",
        )
    since_epoch = time - datetime.fromtimestamp(0, tz=time.tzinfo)
    return (since_epoch.days * 86_400 + since_epoch.seconds) * _US + since_epoch.microseconds
