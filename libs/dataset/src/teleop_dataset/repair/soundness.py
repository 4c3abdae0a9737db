"""Whether there is anything to repair: a dataset that its recorder closed is left alone."""

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

    flags  what is odd about it all the same, though no repair would change it
    """

    episodes: int
    frames: int
    flags: tuple[str, ...]

    def as_text(self) -> str:
        """The same as lines for people."""
        first = f"nothing is wrong: {self.episodes} episodes, {self.frames} frames; nothing was written"
        return "\n".join([first, *(f"note: {flag}" for flag in self.flags)])


def find_sound(source: Path) -> Soundness | None:
    """What is in the dataset if LeRobot opens it as it is; None if it is to be repaired.

    Every row is read and the place of every video frame; the video is not decoded.
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
            # LeRobot records infinite values as they come: they are no damage.
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
        # What exactly is wrong, the repair tells.
        return None
    left = [
        f"{folder}/ holds pictures of an episode that was not saved"
        for folder in unsaved_folders(source, seen)
    ]
    return Soundness(seen.info.total_episodes, seen.info.total_frames, (*map(str, dropped), *left))
