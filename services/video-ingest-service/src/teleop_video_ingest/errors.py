"""What an upload or a look at stored files can be refused for, beyond the errors that every service knows."""

from typing import Self

from teleop_schema.errors import BackendError, Conflict, NotFound
from teleop_schema.words import counted


class UnknownSession(NotFound):
    """There is no such session yet: its telemetry may arrive after its video."""

    code, retryable = "unknown_session", True


class VideoNotFound(NotFound):
    """There is no such video chunk."""

    code, retryable = "video_not_found", False

    @classmethod
    def of(cls, video_id: int) -> Self:
        """The error that names the chunk."""
        return cls(f"there is no video {video_id}", field="video_id")


class DatasetNotFound(NotFound):
    """There is no such dataset."""

    code, retryable = "dataset_not_found", False


class VersionNotFound(NotFound):
    """The dataset has no such version, or no longer has it."""

    code, retryable = "version_not_found", False


class FileNotFound(NotFound):
    """The dataset has no such file."""

    code, retryable = "file_not_found", False


class ChunkConflict(Conflict):
    """This chunk of the session's video is already stored with different bytes or times."""

    code, retryable = "chunk_conflict", False


class RobotMismatch(Conflict):
    """The session belongs to another robot."""

    code, retryable = "robot_mismatch", False


class NamesOverlap(Conflict):
    """One dataset would be inside another."""

    code, retryable = "names_overlap", False


class FilesMissing(Conflict):
    """The server lacks files of this version: send them first."""

    code, retryable = "files_missing", True

    def __init__(self, paths: list[str]) -> None:
        super().__init__(
            f"the server lacks {counted(len(paths), 'file')} of this version, for example {paths[0]!r}",
            field="files",
            hint="send them with POST /files/plan, then this version again",
        )
        self.paths = paths


class ObjectGone(Conflict):
    """The bytes are no longer stored: upload them again."""

    code, retryable = "object_gone", True


class AlreadySound(Conflict):
    """This version is finalised, and all of it can be read: there is nothing to repair."""

    code, retryable = "already_sound", False


class NothingRecovered(Conflict):
    """Nothing of this version could be recovered."""

    code, retryable = "not_repairable", False


class Damaged(BackendError):
    """Stored bytes have changed since they arrived."""

    code, status, retryable = "damaged", 500, False


class FramesTold(Conflict):
    """The sender of this video named the frame of each picture: it is part of the recording, and stays."""

    code, retryable = "frames_told", False


class BadTusHeader(BackendError):
    """A header of the tus protocol is missing or invalid."""

    code, status, close_code, retryable = "bad_tus_header", 400, 1008, False


class BadTusVersion(BackendError):
    """This backend speaks tus 1.0.0: send `Tus-Resumable: 1.0.0`."""

    code, status, close_code, retryable = "bad_tus_version", 412, 1008, False


class UnknownChecksum(BackendError):
    """This checksum algorithm is not supported."""

    code, status, close_code, retryable = "unknown_checksum", 400, 1008, False


class BadForm(BackendError):
    """The multipart body can't be understood."""

    code, status, close_code, retryable = "bad_form", 400, 1007, False


class TooManyUploads(BackendError):
    """This robot has too many unfinished uploads."""

    code, status, close_code, retryable = "too_many_uploads", 429, 1013, True


class QuotaReached(BackendError):
    """The files of this robot take as much as they may: it keeps the others until there is room."""

    code, status, close_code, retryable = "quota_reached", 507, 1013, True


class UploadGone(BackendError):
    """This upload was given up: start again."""

    code, status, close_code, retryable = "upload_gone", 410, 4404, True


class ImportNotFound(NotFound):
    """Nobody has asked to import this dataset."""

    code, retryable = "import_not_found", False


class NotFinalised(Conflict):
    """The recording of this dataset is not finished."""

    code, retryable = "not_finalised", True
