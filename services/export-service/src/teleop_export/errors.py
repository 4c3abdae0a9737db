"""What an export can be refused or fail for, beyond the errors that every service knows."""

from teleop_schema.errors import BackendError, BadInput, Conflict, Forbidden, NotFound, StorageUnavailable


class ExportNotFound(NotFound):
    """There is no such export."""

    code = "export_not_found"


class BadFps(BadInput):
    """LeRobot datasets have a whole number of frames per second."""

    code = "bad_fps"


class NotMade(StorageUnavailable):
    """An export can't be made now, for a reason that is not its own: it waits, and no attempt is lost."""


class NotConnected(NotMade):
    """The database has no connection left for the making of an export; nothing of it has been begun."""


class FolderUnusable(NotMade):
    """The folder of the exports can't be written now."""

    code = "exports_unwritable"


class SessionUnfinished(Conflict):
    """The session is still being recorded."""

    code = "session_unfinished"


class FramesUnaccounted(Conflict):
    """Frames of the session are neither stored nor named as lost."""

    code = "frames_unaccounted"


class SessionsDiffer(Conflict):
    """The sessions can't be one dataset."""

    code = "sessions_differ"


class RatesDiffer(Conflict):
    """Episodes were recorded at rates of which none fits all of them."""

    code = "rates_differ"


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


class CameraMissing(Conflict):
    """A session has no video of a camera."""

    code = "camera_missing"


class VideoDiffers(Conflict):
    """Videos of a camera can't be put together."""

    code = "video_differs"


class VideoUnfinished(Conflict):
    """Not all of a session's video has arrived."""

    code = "video_unfinished"


class VideoUnreadable(Conflict):
    """A video chunk is gone, or does not hold what it held when the export was asked for."""

    code = "video_unreadable"


class HubTokenMissing(Conflict):
    """The worker has no token for the Hub."""

    code = "hub_token_missing"


class HubRefused(Forbidden):
    """The Hub does not let this token do that."""

    code = "hub_refused"


class HubForeignContent(Conflict):
    """The repository on the Hub holds something else."""

    code = "hub_foreign_content"


class HubRepoPublic(Conflict):
    """The repository on the Hub is public, and the push is to be private."""

    code = "hub_repo_public"


class HubUnavailable(BackendError):
    """The Hub can't be reached, or can't answer now."""

    code, status, retryable = "hub_unavailable", 503, True


class NotPushable(Conflict):
    """Only datasets are pushed to the Hub."""

    code = "not_pushable"


class PushBusy(Conflict):
    """The export is being pushed already."""

    code = "push_busy"


class NotStreamable(Conflict):
    """The dataset can't be made so that it can be streamed."""

    code = "not_streamable"


class Cancelled(Exception):
    """The export is no longer wanted, or another attempt has taken it over."""
