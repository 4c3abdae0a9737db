"""Language columns of the rows: what is going on, in words, as LeRobot's `lerobot-annotate` writes it. Pure.

`language_persistent` has on each row of an episode all that is said of the episode, each with the time from
which it is true, until another of its style is; `language_events` has on a row what happens on this row.
(lerobot 0.6.1, datasets/language.py and annotations/steerable_pipeline/writer.py)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

PERSISTENT, EVENTS = "language_persistent", "language_events"
PERSISTENT_STYLES = frozenset({"subtask", "plan", "memory", "motion", "task_aug"})
EVENT_STYLES = frozenset({"interjection", "vqa", "trace"})
# They are about what a camera sees.
VIEW_STYLES = frozenset({"vqa", "trace"})
FEATURES: dict[str, dict[str, Any]] = {
    key: {"dtype": "language", "shape": [1], "names": None} for key in (PERSISTENT, EVENTS)
}

_TEXT = {"dtype": "string", "_type": "Value"}
_SAID = {"role": _TEXT, "content": _TEXT, "style": _TEXT}
_ABOUT = {"camera": _TEXT, "tool_calls": {"feature": {"_type": "Json"}, "_type": "List"}}
_TIME = {"timestamp": {"dtype": "float32", "_type": "Value"}}
# In the form of `datasets.Features`.
DESCRIBED: dict[str, dict[str, Any]] = {
    PERSISTENT: {"feature": _SAID | _TIME | _ABOUT, "_type": "List"},
    EVENTS: {"feature": _SAID | _ABOUT, "_type": "List"},
}

_SAID_FIELDS = [pa.field(name, pa.string()) for name in _SAID]
# Calls of tools are texts of JSON, which `datasets` takes for its own type.
_ABOUT_FIELDS = [pa.field("camera", pa.string()), pa.field("tool_calls", pa.list_(pa.string()))]
TYPES: dict[str, pa.DataType] = {
    PERSISTENT: pa.list_(pa.struct([*_SAID_FIELDS, pa.field("timestamp", pa.float32()), *_ABOUT_FIELDS])),
    EVENTS: pa.list_(pa.struct([*_SAID_FIELDS, *_ABOUT_FIELDS])),
}


@dataclass(frozen=True)
class Said:
    """Words about an episode.

    at_s    when they begin to be true, or what they are about happens, from the beginning of the episode, s
    camera  feature of the camera that they are about; None: they are about none
    """

    at_s: float
    style: str
    content: str
    role: Literal["user", "assistant"] = "assistant"
    camera: str | None = None


def language_columns(said: Sequence[Said], length: int, fps: int) -> dict[str, pa.Array]:
    """Both columns of one episode.

    length   rows of it
    returns  by name, (length,); words are on the nearest row, for LeRobot finds events by the time of a row
    raises   ValueError for a style or a camera that LeRobot does not take
    """
    times = (np.arange(length) / fps).astype(np.float32)
    lasting: list[dict[str, Any]] = []
    events: list[list[dict[str, Any]]] = [[] for _ in range(length)]
    for each in sorted(said, key=lambda each: (each.at_s, each.style, each.role)):
        _check(each)
        row = min(max(round(each.at_s * fps), 0), length - 1)
        words = {"role": each.role, "content": each.content, "style": each.style, "camera": each.camera}
        if each.style in PERSISTENT_STYLES:
            lasting.append({**words, "timestamp": float(times[row]), "tool_calls": None})
        else:
            events[row].append({**words, "tool_calls": None})
    return {PERSISTENT: _repeated(lasting, length), EVENTS: pa.array(events, TYPES[EVENTS])}


def _check(said: Said) -> None:
    if said.style not in PERSISTENT_STYLES | EVENT_STYLES:
        raise ValueError(f"{said.style!r} is not a style that LeRobot knows")
    if (said.style in VIEW_STYLES) != (said.camera is not None):
        wanted = "name a camera" if said.camera is None else "be about no camera"
        raise ValueError(f"words of the style {said.style} must {wanted}")


def _repeated(rows: list[dict[str, Any]], length: int) -> pa.Array:
    """The same list on each row."""
    values = pa.array(rows * length, TYPES[PERSISTENT].value_type)
    offsets = pa.array(np.arange(length + 1, dtype=np.int32) * len(rows), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, type=TYPES[PERSISTENT])
