"""What is known of each episode as columns of `meta/episodes`. Pure.

LeRobot hands them to `LeRobotDataset(…, episode_filter=…)`: `lambda episode: episode["backend/success"]`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

PREFIX = "backend/"
# Null where nobody has said: a success is neither true nor false then.
COLUMNS = pa.schema(
    [
        ("backend/session_id", pa.int64()),
        ("backend/episode_index", pa.int64()),
        ("backend/robot_id", pa.string()),
        ("backend/operator", pa.string()),
        ("backend/outcome", pa.string()),
        ("backend/success", pa.bool_()),
        ("backend/reason", pa.string()),
        ("backend/quality", pa.int64()),
        ("backend/tags", pa.list_(pa.field("element", pa.string()))),
        ("backend/measured_hz", pa.float64()),
    ]
)


def label_row(episode: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an episode as `meta/backend.json` describes it; none if it has no labels there."""
    known = episode.get("labels")
    if not isinstance(known, Mapping):
        return {}
    outcome = known.get("outcome")
    return {
        "backend/session_id": episode.get("session_id"),
        "backend/episode_index": episode.get("recorded_episode"),
        "backend/success": None if outcome is None else outcome == "success",
        **{
            f"{PREFIX}{name}": known.get(name)
            for name in ("robot_id", "operator", "outcome", "reason", "quality", "measured_hz")
        },
        "backend/tags": list(known.get("tags") or ()),
    }


def label_columns(episodes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By the names of COLUMNS, episode by episode; of episodes that all have labels, or none of them."""
    rows = [row for each in episodes if (row := label_row(each))]
    return {name: [row[name] for row in rows] for name in COLUMNS.names} if rows else {}
