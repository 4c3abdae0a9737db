"""Asks the server about a dataset's backup."""

from collections.abc import Iterator
from urllib.parse import urlencode

from msgspec import Struct
from teleop_client.backend_http import ANSWER_S, BackendHttp, dataset_address
from teleop_schema.files import MAX_DATASET_FILES, DatasetVersion

# About 2 MB of JSON.
PAGE_FILES = 10_000
# After this many pages, the server is considered broken.
MAX_PAGES = 2 * MAX_DATASET_FILES // PAGE_FILES
# The server answers only once it has read all bytes again.
SLOWEST_READ_BYTES_PER_S = 10_000_000


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file of a version; `damage` is what the last check of its bytes found."""

    path: str
    size_bytes: int
    sha256: str
    damage: str | None = None


class _Listing(Struct, kw_only=True):
    newest: DatasetVersion | None
    files: list[StoredFile]
    next_after: str | None


class DamageOnServer(Struct, kw_only=True):
    """A file whose stored bytes have changed."""

    path: str
    damage: str


class ServerCheck(Struct, kw_only=True):
    """The server's result after it has read all bytes again."""

    checked: int
    damaged: list[DamageOnServer]


async def stored_files(
    backend: BackendHttp, robot_id: str, dataset: str, version: int | None
) -> dict[str, StoredFile]:
    """Files of a version by path (None: the newest closed version; if there is none, the newest).

    Raises Interrupted (its code says whether there is no such dataset or version), Refused.
    """
    files: dict[str, StoredFile] = {}
    after = ""
    for _ in range(MAX_PAGES):
        wanted = {"limit": PAGE_FILES, "after": after} | ({} if version is None else {"version": version})
        page = await backend.ask("GET", f"{dataset_address(robot_id, dataset)}?{urlencode(wanted)}", _Listing)
        files |= {file.path: file for file in page.files}
        if page.next_after is None:
            break
        after = page.next_after
    return files


async def verify_stored(
    backend: BackendHttp, robot_id: str, dataset: str, version: int | None, *, size_bytes: int
) -> ServerCheck:
    """Let the server read every byte of the version, whose size is given. Raises like `stored_files`."""
    wanted = "" if version is None else f"?version={version}"
    address = dataset_address(robot_id, dataset, "verify") + wanted
    patience_s = ANSWER_S + size_bytes / SLOWEST_READ_BYTES_PER_S
    return await backend.ask("POST", address, ServerCheck, patience_s=patience_s)


def differences(mine: dict[str, tuple[int, str]], theirs: dict[str, StoredFile]) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of each file that differs here (size, hash) and on the server."""
    for path, (size_bytes, sha256) in sorted(mine.items()):
        stored = theirs.get(path)
        if stored is None:
            yield path, "not on the server"
        elif stored.size_bytes != size_bytes:
            yield path, f"{size_bytes} bytes here, {stored.size_bytes} on the server"
        elif stored.sha256 != sha256:
            yield path, "other bytes here than on the server"
