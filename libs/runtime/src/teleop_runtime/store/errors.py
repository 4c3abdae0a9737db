"""What can go wrong between a file and the store."""

from uuid import UUID

from teleop_schema.errors import BackendError, Conflict, NotFound, StorageUnavailable


class UnknownUpload(NotFound):
    """There is no such upload: it was never started, has expired, or was given up."""

    code, retryable = "unknown_upload", True

    def __init__(self, upload_id: UUID | str) -> None:
        super().__init__(
            f"there is no upload {upload_id}: it was never started, has expired, or was given up",
            field="upload_id",
            hint="start the upload again",
        )


class OffsetMismatch(Conflict):
    """The bytes do not start where the upload's stored bytes end."""

    code, retryable = "offset_mismatch", True

    def __init__(self, *, stored: int, sent: int) -> None:
        super().__init__(
            f"the upload holds {stored} bytes, but the sent bytes start at {sent}",
            field="Upload-Offset",
            limit=stored,
            hint="ask for the offset with HEAD and continue from there",
        )


class UploadBusy(BackendError):
    """Another request is writing to this upload."""

    code, status, close_code, retryable = "upload_busy", 423, 1013, True


class ChecksumMismatch(BackendError):
    """The received bytes do not match their checksum."""

    code, status, close_code, retryable = "checksum_mismatch", 460, 1007, True


class ObjectMissing(NotFound):
    """The store has no object of this SHA-256."""

    code, retryable = "object_missing", True  # whoever has the bytes still can send them again

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the store has no object {sha256}")


class PathTaken(Conflict):
    """A folder lies where the file should be, or a file where its folder should be."""

    code, retryable = "path_taken", False


class StoreUnusable(StorageUnavailable):
    """The file store can't be used right now."""

    code, retryable = "store_unusable", True


class DiskFailed(StoreUnusable):
    """The disk of the file store fails: what was being stored is not safe and does not count."""

    code, retryable = "disk_failed", True
