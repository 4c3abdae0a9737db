"""What an export can be refused or fail for, beyond the errors that every service knows."""

from typing import Self

from teleop_schema.errors import BackendError, BadInput, Conflict, Forbidden, NotFound, StorageUnavailable


class ExportNotFound(NotFound):
    """There is no such export."""

    code, retryable = "export_not_found", False

    @classmethod
    def of(cls, export_id: int) -> Self:
        """The error that names the export."""
        return cls(f"there is no export {export_id}", field="export_id")


class ExportErased(Conflict):
    """The export had frames of a session that an admin has erased for good, and is erased with it."""

    code, status, retryable = "export_erased", 410, False


class ExportFilesGone(NotFound):
    """The files of a finished export no longer exist."""

    code, retryable = "export_files_gone", True  # asked for again, the export is made again

    @classmethod
    def of(cls, export_id: int) -> Self:
        """The error of this export, with what to do."""
        return cls(
            f"the files of export {export_id} no longer exist",
            hint="ask for it again with the same request: it is made again",
        )


class BadFps(BadInput):
    """LeRobot datasets need a whole number of frames per second."""

    code, retryable = "bad_fps", False


class NotMade(StorageUnavailable):
    """The export can't be made now for reasons outside of it: it waits, and no attempt is lost."""

    retryable = True


class NotConnected(NotMade):
    """The database has no connection left to make an export; nothing has been started."""

    retryable = True


class FolderUnusable(NotMade):
    """The export folder can't be written right now."""

    code, retryable = "exports_unwritable", True


class NoRoom(NotMade):
    """The disk of the export folder has no room for the export now."""

    code, status, retryable = "no_space", 507, True


class RanFull(NoRoom):
    """The disk of the export folder became full while the export was made."""

    retryable = True


class MediaEnded(NotMade):
    """The process that decodes video was ended by something else than the video."""

    code, retryable = "media_ended", True


class StoreAway(NotMade):
    """The store can't be reached, or the place of its files is not there: nothing can be said of a file."""

    code, retryable = "store_unusable", True


class SessionUnfinished(Conflict):
    """The session is still being recorded."""

    code, retryable = "session_unfinished", True


class FramesUnaccounted(Conflict):
    """Some frames of the session are unaccounted for: neither stored nor recorded as gaps."""

    code, retryable = "frames_unaccounted", True


class SessionsDiffer(Conflict):
    """The sessions can't become one dataset."""

    code, retryable = "sessions_differ", False


class RatesDiffer(Conflict):
    """The episodes were recorded at different rates, and no rate fits all of them."""

    code, retryable = "rates_differ", False


class EpisodeHasGap(Conflict):
    """An episode has missing frames, and the request does not allow that."""

    code, retryable = "episode_has_gap", False


class EpisodeNotFound(NotFound):
    """A session has no such episode."""

    code, retryable = "episode_not_found", False


class EpisodeDiscarded(Conflict):
    """An episode that was chosen by hand is discarded, and such episodes are in no dataset."""

    code, retryable = "episode_discarded", True  # a person can give it another outcome


class EpisodesOverlap(Conflict):
    """Two episodes of a session share frames."""

    code, retryable = "episodes_overlap", True  # a person can correct the episodes


class NothingToExport(Conflict):
    """There are no frames to export."""

    code, retryable = "nothing_to_export", True  # sessions and labels come with time


class UnknownName(NotFound):
    """No session has a name that the filter asks for, such as a robot's: mistyped, most likely."""

    code, retryable = "unknown_name", False


class ExportNotReady(Conflict):
    """The export has no files, or none yet."""

    code, retryable = "export_not_ready", True


class RecordingChanged(Conflict):
    """Frames that existed when the export was requested are gone."""

    code, retryable = "recording_changed", True  # asked for again, the export is made of what is there then


class NotFinite(Conflict):
    """A recorded value is NaN or infinite, which would spoil the statistics."""

    code, retryable = "not_finite", False


class CameraMissing(Conflict):
    """A session has no video of a camera."""

    code, retryable = "camera_missing", False


class VideoDiffers(Conflict):
    """Videos of a camera can't be combined."""

    code, retryable = "video_differs", False


class VideoUnfinished(Conflict):
    """Not all of a session's video has arrived."""

    code, retryable = "video_unfinished", True


class VideoMisplaced(Conflict):
    """The times of a video chunk lie outside its session."""

    code, retryable = "video_misplaced", False


class VideoUnreadable(Conflict):
    """A video chunk is gone, or has changed since the export was requested."""

    code, retryable = "video_unreadable", False


class HubTokenMissing(Conflict):
    """The worker has no token for the Hub."""

    code, retryable = "hub_token_missing", True  # a token can be given to the worker


class HubRefused(Forbidden):
    """The Hub does not allow this token to do that."""

    code, retryable = "hub_refused", True  # the token's rights are set on the Hub


class HubForeignContent(Conflict):
    """The repository on the Hub holds other content."""

    code, retryable = "hub_foreign_content", False


class HubRepoPublic(Conflict):
    """The repository on the Hub is public, but the push is private."""

    code, retryable = "hub_repo_public", True  # its owner can make it private


class HubUnavailable(BackendError):
    """The Hub can't be reached, or can't answer right now."""

    code, status, retryable = "hub_unavailable", 503, True
    retry_after_s = 1


class NotPushable(Conflict):
    """Only datasets can be pushed to the Hub."""

    code, retryable = "not_pushable", False


class NotComparable(Conflict):
    """Only datasets can be compared."""

    code, retryable = "not_comparable", False


class PushBusy(Conflict):
    """The export is already being pushed."""

    code, retryable = "push_busy", True


class NotStreamable(Conflict):
    """The dataset can't be made streamable."""

    code, retryable = "not_streamable", False


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code, retryable = "webhook_not_found", False


class TooManyWebhooks(Conflict):
    """There are as many webhooks as there may be."""

    code, retryable = "too_many_webhooks", True  # a person can remove one


class Cancelled(Exception):
    """The export was cancelled, or another attempt has taken it over."""
