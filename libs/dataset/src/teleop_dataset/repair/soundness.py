"""Finds out whether there is anything to repair, so that a closed dataset is left alone."""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import pyarrow as pa
from teleop_schema.errors import BackendError

from teleop_dataset.flags import flag_episodes
from teleop_dataset.folder import look
from teleop_dataset.readiness import what_is_unfinished
from teleop_dataset.repair.rows import RowReader
from teleop_dataset.repair.source import unsaved_folders
from teleop_dataset.v3 import layout
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.verify import verify


@dataclass(frozen=True)
class Soundness:
    """A dataset that lacks nothing.

    flags  faults that no repair would change
    """

    episodes: int
    frames: int
    flags: tuple[str, ...]

    def as_text(self) -> str:
        """The same as lines for people."""
        first = f"nothing is wrong: {self.episodes} episodes, {self.frames} frames; nothing was written"
        return "\n".join([first, *(f"note: {flag}" for flag in self.flags)])


def find_sound(source: Path) -> Soundness | None:
    """The contents of the dataset if LeRobot can open it as it is; None if it needs a repair.

    Reads every row and the place of every video frame, but does not decode the video.
    """
    seen = look(source)
    if seen.info is None or what_is_unfinished(seen) is not None:
        return None
    try:
        info = json.loads((source / layout.INFO).read_bytes())
        rows = RowReader(info["features"], info["fps"])
        for path, _ in seen.tables("data"):
            if rows.read(source / path, FileNumber.of(path)):
                return None
        dropped = flag_episodes(source, seen)
        verify(
            source,
            frames=seen.info.total_frames,
            advance=lambda _seen, _total: None,
            short={flag.episode for flag in dropped},
            # LeRobot records infinite values unchanged, so they are not damage.
            not_finite=info["features"],
        )
    except (
        BackendError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
        pa.ArrowException,
        av.FFmpegError,
    ):
        # The repair reports what exactly is wrong.
        return None
    left = [
        f"{folder}/ holds pictures of an episode that was not saved"
        for folder in unsaved_folders(source, seen)
    ]
    return Soundness(seen.info.total_episodes, seen.info.total_frames, (*map(str, dropped), *left))
