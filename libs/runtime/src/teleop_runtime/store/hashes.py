"""SHA-256 of open uploads, so that their bytes need not be read again at the end."""

from collections import OrderedDict
from typing import TYPE_CHECKING
from uuid import UUID

from teleop_runtime.store.errors import ChecksumMismatch

if TYPE_CHECKING:
    from hashlib import _Hash

# How many uploads are remembered; the bytes of others are read again.
MAX_KEPT_HASHES = 256


def check_sha256(arrived: str, wanted: str) -> None:
    """Raise ChecksumMismatch unless the two hexadecimal hashes are equal."""
    if arrived != wanted:
        raise ChecksumMismatch(
            f"the SHA-256 of the received bytes is {arrived}, not {wanted}",
            field="sha256",
            hint="upload the file again",
        )


class Hashes:
    """Hashes of the latest uploads that this process has received from their first byte on."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, tuple[int, _Hash]] = OrderedDict()

    def keep(self, upload_id: UUID, size: int, sha256: "_Hash") -> None:
        """Remember the SHA-256 of the upload's first `size` bytes."""
        self._kept[upload_id] = (size, sha256)
        if len(self._kept) > MAX_KEPT_HASHES:
            self._kept.popitem(last=False)

    def of(self, upload_id: UUID, size: int) -> "_Hash | None":
        """SHA-256 of the upload's first `size` bytes; None if it is not known."""
        at, sha256 = self._kept.get(upload_id, (None, None))
        # A copy, because the caller goes on hashing with it, and may fail on the way.
        return sha256.copy() if sha256 is not None and at == size else None

    def forget(self, upload_id: UUID) -> None:
        self._kept.pop(upload_id, None)
