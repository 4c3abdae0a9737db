"""Stores files: as objects by their SHA-256, under readable names, and as uploads.

`open_store` returns a Store in a local folder or on S3. Both give the same guarantees,
and one test suite checks both. Nothing outside this package knows which of them it uses.
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
