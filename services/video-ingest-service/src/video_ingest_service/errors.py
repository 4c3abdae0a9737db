"""What an upload or a look at stored files can be refused for, beyond the errors that every service knows."""

from teleop_schema.errors import BackendError, Conflict, NotFound


class UnknownSession(NotFound):
    """There is no such session (yet): its telemetry may arrive later than its video."""

    code, retryable = "unknown_session", True


class VideoNotFound(NotFound):
    """There is no such video chunk."""

    code = "video_not_found"


class DatasetNotFound(NotFound):
    """There is no such dataset."""

    code = "dataset_not_found"


class VersionNotFound(NotFound):
    """The dataset has no such version (any more)."""

    code = "version_not_found"


class FileNotFound(NotFound):
    """The dataset has no such file."""

    code = "file_not_found"


class ChunkConflict(Conflict):
    """This chunk of the session's video is stored already, with other bytes."""

    code = "chunk_conflict"


class RobotMismatch(Conflict):
    """The session is another robot's."""

    code = "robot_mismatch"


class NamesOverlap(Conflict):
    """One dataset would lie within another."""

    code = "names_overlap"


class FilesMissing(Conflict):
    """The server lacks files of this version: send them first."""

    code, retryable = "files_missing", True


class ObjectGone(Conflict):
    """The bytes are no longer stored: send them again."""

    code, retryable = "object_gone", True


class AlreadySound(Conflict):
    """This version is finalised and whole: there is nothing to repair."""

    code = "already_sound"


class NotRepairable(Conflict):
    """Nothing of this version could be recovered."""

    code = "not_repairable"


class Damaged(BackendError):
    """Stored bytes are not what they were."""

    code, status, retryable = "damaged", 500, False


class BadRange(BackendError):
    """The range lies outside of the file."""

    code, status, close_code, retryable = "bad_range", 416, 1008, False
