"""What an export can be refused or fail for, beyond the errors that every service knows."""

from teleop_schema.errors import BackendError, BadInput, Conflict, Forbidden, NotFound, StorageUnavailable


class ExportNotFound(NotFound):
    """There is no such export."""

    code, retryable = "export_not_found", False


class BadFps(BadInput):
    """LeRobot datasets have a whole number of frames per second."""

    code, retryable = "bad_fps", False


class NotMade(StorageUnavailable):
    """An export can't be made now, for a reason that is not its own: it waits, and no attempt is lost."""

    retryable = True


class NotConnected(NotMade):
    """The database has no connection left for the making of an export; nothing of it has been begun."""

    retryable = True


class FolderUnusable(NotMade):
    """The folder of the exports can't be written now."""

    code, retryable = "exports_unwritable", True


class SessionUnfinished(Conflict):
    """The session is still being recorded."""

    code, retryable = "session_unfinished", True


class FramesUnaccounted(Conflict):
    """Frames of the session are neither stored nor named as lost."""

    code, retryable = "frames_unaccounted", True


class SessionsDiffer(Conflict):
    """The sessions can't be one dataset."""

    code, retryable = "sessions_differ", False


class RatesDiffer(Conflict):
    """Episodes were recorded at rates of which none fits all of them."""

    code, retryable = "rates_differ", False


class EpisodeHasGap(Conflict):
    """Frames are missing inside an episode, and the request refuses such episodes."""

    code, retryable = "episode_has_gap", False


class EpisodesOverlap(Conflict):
    """Two episodes of a session share frames."""

    code, retryable = "episodes_overlap", True  # a person can correct the episodes


class NothingToExport(Conflict):
    """No frame is left to export."""

    code, retryable = "nothing_to_export", True  # sessions and labels come with time


class ExportNotReady(Conflict):
    """The export has no files (yet)."""

    code, retryable = "export_not_ready", True


class RecordingChanged(Conflict):
    """Frames that were there when the export was asked for are gone."""

    code, retryable = "recording_changed", True  # asked for again, the export is made of what is there then


class NotFinite(Conflict):
    """A recorded value is NaN or infinite, which no statistic survives."""

    code, retryable = "not_finite", False


class CameraMissing(Conflict):
    """A session has no video of a camera."""

    code, retryable = "camera_missing", False


class VideoDiffers(Conflict):
    """Videos of a camera can't be put together."""

    code, retryable = "video_differs", False


class VideoUnfinished(Conflict):
    """Not all of a session's video has arrived."""

    code, retryable = "video_unfinished", True


class VideoUnreadable(Conflict):
    """A video chunk is gone, or does not hold what it held when the export was asked for."""

    code, retryable = "video_unreadable", False


class HubTokenMissing(Conflict):
    """The worker has no token for the Hub."""

    code, retryable = "hub_token_missing", True  # a token can be given to the worker


class HubRefused(Forbidden):
    """The Hub does not let this token do that."""

    code, retryable = "hub_refused", True  # the token's rights are set on the Hub


class HubForeignContent(Conflict):
    """The repository on the Hub holds something else."""

    code, retryable = "hub_foreign_content", False


class HubRepoPublic(Conflict):
    """The repository on the Hub is public, and the push is to be private."""

    code, retryable = "hub_repo_public", True  # its owner can make it private


class HubUnavailable(BackendError):
    """The Hub can't be reached, or can't answer now."""

    code, status, retryable = "hub_unavailable", 503, True


class NotPushable(Conflict):
    """Only datasets are pushed to the Hub."""

    code, retryable = "not_pushable", False


class PushBusy(Conflict):
    """The export is being pushed already."""

    code, retryable = "push_busy", True


class NotStreamable(Conflict):
    """The dataset can't be made so that it can be streamed."""

    code, retryable = "not_streamable", False


class Cancelled(Exception):
    """The export is no longer wanted, or another attempt has taken it over."""
