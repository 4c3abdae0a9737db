"""What is known of each episode as columns of `meta/episodes`. Pure.

LeRobot hands them to `LeRobotDataset(…, episode_filter=…)`: `lambda episode: episode["backend/success"]`.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from teleop_export.planning.pieces import Labels, Piece

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


def label_columns(pieces: Sequence[Piece]) -> dict[str, list[Any]]:
    """By the names of COLUMNS, episode by episode; of pieces that all have labels, or none of them."""
    known = [(piece, piece.labels) for piece in pieces if piece.labels is not None]
    if not known:
        return {}
    rows = [_row(piece, labels) for piece, labels in known]
    return {name: [row[number] for row in rows] for number, name in enumerate(COLUMNS.names)}


def _row(piece: Piece, labels: Labels) -> tuple[Any, ...]:
    return (
        piece.session_id,
        piece.episode_index,
        labels.robot_id,
        labels.operator,
        labels.outcome,
        None if labels.outcome is None else labels.outcome == "success",
        labels.reason,
        labels.quality,
        list(labels.tags),
        labels.measured_hz,
    )
