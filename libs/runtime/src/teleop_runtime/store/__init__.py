"""Where files are kept: by their SHA-256, under plain names, and on their way in.

`open_store` gives a Store on a local directory or on S3; both keep the same promises, which one suite of
tests holds them to. Nothing outside this package knows which of them it talks to.
"""

from teleop_runtime.store.errors import (
    ChecksumMismatch,
    DiskFailed,
    ObjectMissing,
    OffsetMismatch,
    PathTaken,
    StoreUnusable,
    UnknownUpload,
    UploadBusy,
)
from teleop_runtime.store.notes import read_notes
from teleop_runtime.store.opening import open_store
from teleop_runtime.store.protocol import Checksum, Recipe, Store

__all__ = [
    "Checksum",
    "ChecksumMismatch",
    "DiskFailed",
    "ObjectMissing",
    "OffsetMismatch",
    "PathTaken",
    "Recipe",
    "Store",
    "StoreUnusable",
    "UnknownUpload",
    "UploadBusy",
    "open_store",
    "read_notes",
]
