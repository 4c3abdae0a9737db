"""Errors of datasets."""

from teleop_schema.errors import BackendError


class VerificationFailed(BackendError):
    """The dataset breaks a rule of its format."""

    code, status, retryable = "verification_failed", 500, False


class BrokenFile(BackendError):
    """A file is damaged, cut off, or not of the format that its name says."""

    code, status, retryable = "broken_file", 422, False


class NotRepairable(BackendError):
    """The dataset lacks what a repair needs to start from."""

    code, status, retryable = "not_repairable", 422, False


class NotImportable(BackendError):
    """The dataset can't become a session."""

    code, status, retryable = "not_importable", 422, False
