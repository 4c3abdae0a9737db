"""A session that is written as it was recorded. Pure."""

from typing import Any

from msgspec import Struct
from teleop_schema.columns import Column

from teleop_export.planning.pieces import Piece
from teleop_export.sessions.recorded import CameraVideo, EpisodeRow, Gap
from teleop_export.timing.pauses import Spans


class RawSession(Struct, frozen=True, kw_only=True):
    """A session as it was recorded.

    pieces    all stored frames, ascending, in each as many as are read at a time
    episodes  as they are noted, discarded ones too
    pauses    frames within episodes that do not belong to them
    gaps      frames that were never stored
    footage   of each camera
    columns   beyond state and action
    """

    session_id: int
    robot_id: str = ""
    robot_type: str
    fps: float
    task: str | None
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    committed: int
    pieces: tuple[Piece, ...]
    episodes: tuple[EpisodeRow, ...]
    gaps: tuple[Gap, ...]
    footage: dict[str, CameraVideo]
    columns: tuple[Column, ...] = ()
    pauses: Spans = ()


def told_tasks(episode: EpisodeRow, session: RawSession) -> list[dict[str, Any]]:
    """Tasks of the episode one after the other, each with its first frame."""
    return [
        {"first_frame": frame, "task": task or session.task}
        for frame, task in ((episode.first, episode.task), *episode.changes)
    ]
