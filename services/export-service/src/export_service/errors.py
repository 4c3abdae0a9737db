"""What an export can be refused or fail for, beyond the errors that every service knows."""

from teleop_schema.errors import BadInput, Conflict, NotFound


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"


class ExportNotFound(NotFound):
    """There is no such export."""

    code = "export_not_found"


class BadFps(BadInput):
    """LeRobot datasets have a whole number of frames per second."""

    code = "bad_fps"


class SessionUnfinished(Conflict):
    """The session is still being recorded."""

    code = "session_unfinished"


class SessionsDiffer(Conflict):
    """The sessions can't be one dataset."""

    code = "sessions_differ"


class EpisodeHasGap(Conflict):
    """Frames are missing inside an episode, and the request refuses such episodes."""

    code = "episode_has_gap"


class EpisodesOverlap(Conflict):
    """Two episodes of a session share frames."""

    code = "episodes_overlap"


class NothingToExport(Conflict):
    """No frame is left to export."""

    code = "nothing_to_export"


class ExportNotReady(Conflict):
    """The export has no files (yet)."""

    code = "export_not_ready"


class RecordingChanged(Conflict):
    """Frames that were there when the export was asked for are gone."""

    code = "recording_changed"


class NotFinite(Conflict):
    """A recorded value is NaN or infinite, which no statistic survives."""

    code = "not_finite"


class Cancelled(Exception):
    """The export is no longer wanted, or another attempt has taken it over."""
