"""What an import makes of a dataset, as the process that has read it tells."""

import pyarrow as pa
from msgspec import Struct
from teleop_dataset.importing import ImportedCamera, ImportedEpisode, ImportedVideo
from teleop_schema.columns import Column
from teleop_schema.session import Camera

from teleop_telemetry.frames.columns import COLUMNS

# Columns of the frames that were read: those of the table, but for the session's number.
ROWS: pa.Schema = COLUMNS.remove(COLUMNS.get_field_index("session_id"))


class Plan(Struct, frozen=True, kw_only=True):
    """A dataset as a session.

    first_us     time of its first frame, us since the Unix epoch
    knows_times  whether the dataset tells when its frames were taken
    notes        what the session does not have of it, in words
    """

    fps: float
    robot_type: str
    state_names: list[str]
    action_names: list[str]
    columns: list[Column]
    cameras: dict[str, ImportedCamera]
    episodes: list[ImportedEpisode]
    videos: list[ImportedVideo]
    first_us: int
    knows_times: bool
    notes: list[str]

    @property
    def frames(self) -> int:
        """Of all episodes."""
        return self.episodes[-1].end if self.episodes else 0

    @property
    def digests(self) -> list[str]:
        """Of its episodes."""
        return [episode.digest for episode in self.episodes]

    @property
    def session_cameras(self) -> dict[str, Camera]:
        """As a robot describes its cameras."""
        return {
            name: Camera(height=each.height, width=each.width, fps=self.fps, channels=each.channels)
            for name, each in self.cameras.items()
        }


class Refused(Struct, frozen=True):
    """Why the dataset can't be imported; as in an error."""

    detail: str
    field: str | None = None
    hint: str | None = None


class Answer(Struct, frozen=True):
    """Of the process: one of the two."""

    plan: Plan | None = None
    refused: Refused | None = None
