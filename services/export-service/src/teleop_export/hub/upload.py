"""Pushing one dataset to the Hugging Face Hub: resumable, and visible to readers by a single commit."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars
from teleop_dataset.v3 import layout
from teleop_dataset.v3.files import encode_document

from teleop_export.errors import HubForeignContent, HubRefused, HubRepoPublic, HubUnavailable
from teleop_export.hub.card import MARK, card
from teleop_export.planning.push import PushRequest

KIND = "dataset"
BRANCH = "main"
# LeRobot looks for a tag of its format's version and loads nothing without one.
TAG = "v3.0"
README = "README.md"
FOLDERS = ("data/", "meta/", "videos/")

# Uploaded between two looks at whether the push is still wanted.
BATCH_BYTES = 64 * 1024 * 1024
# Of small files, which take their time by number: whether it is still wanted is looked at in between.
BATCH_FILES = 50
# The Hub limits what one client may do; a worker has its other work, too.
THREADS = 2
# It is read as a whole.
MAX_PROVENANCE_BYTES = 256 * 1024 * 1024
# Of what is there already, to be compared.
MAX_CARD_BYTES = 1024 * 1024

# Like an error of the server, it passes.
TOO_MANY_REQUESTS = 429
# The branch moved between the look at it and the commit.
MOVED = (409, 412)

Advance = Callable[[int, int], None]
"""Told the bytes that are uploaded and all there are; may raise to stop the push."""


@dataclass(frozen=True)
class Access:
    """Where the Hub is, and what opens it."""

    endpoint: str
    token: str


@dataclass(frozen=True)
class Parcel:
    """A published export and what identifies it.

    fingerprint  of the export
    streams      the uuids of its recordings: what has one of them in common is of the same descent
    """

    folder: Path
    repo_id: str
    fingerprint: str
    streams: Sequence[str]


def push(parcel: Parcel, wanted: PushRequest, access: Access, advance: Advance) -> str:
    """Make the repository hold the dataset, tagged; the commit's address. Blocks.

    Files that the Hub already has, from an attempt that was killed say, are not sent again. Raises
    HubForeignContent, HubRepoPublic, HubRefused, HubUnavailable, OSError and whatever `advance` raises.
    """
    # A service has no terminal for them.
    disable_progress_bars()
    with _told(parcel.repo_id):
        return _Push(parcel, wanted, access).run(advance)


class _Push:
    def __init__(self, parcel: Parcel, wanted: PushRequest, access: Access) -> None:
        self._parcel = parcel
        self._wanted = wanted
        self._repo_id = parcel.repo_id
        self._api = HfApi(endpoint=access.endpoint, token=access.token, library_name="lerobot-backend")

    def run(self, advance: Advance) -> str:
        head = self._open()
        remote = self._files(head)
        tagged = self._tagged()
        if not self._wanted.overwrite:
            self._check_descent(head, remote)
            # LeRobot loads the tag, not the branch: what only the tag names must not be lost either.
            if tagged is not None and tagged != head:
                self._check_descent(tagged, self._files(tagged))
        additions = self._additions(head, remote)
        self._upload(additions, advance)
        ours = {addition.path_in_repo for addition in additions}
        # Of an earlier export; files beside a dataset's own folders are somebody's, and stay.
        stale = [path for path in remote if path.startswith(FOLDERS) and path not in ours]
        commit = self._api.create_commit(
            self._repo_id,
            [*additions, *(CommitOperationDelete(path) for path in stale)],
            commit_message=f"Export {self._parcel.fingerprint[:12]}",
            repo_type=KIND,
            revision=BRANCH,
            # Else the Hub would take the commit although somebody else has committed since the look (MOVED).
            parent_commit=head,
        )
        # After the commit: until then LeRobot loads the earlier dataset, as a whole.
        self._tag(commit.oid)
        return str(commit.commit_url)

    def _open(self) -> str:
        """The commit at the head of the repository, which is created if there is none."""
        try:
            info = self._api.repo_info(self._repo_id, repo_type=KIND, revision=BRANCH)
        except RepositoryNotFoundError:
            self._api.create_repo(self._repo_id, repo_type=KIND, private=self._wanted.private, exist_ok=True)
            # Asked again, as somebody may have made it in the same moment, and public.
            info = self._api.repo_info(self._repo_id, repo_type=KIND, revision=BRANCH)
        if self._wanted.private and not info.private:
            raise HubRepoPublic(
                f"{self._repo_id} is public on the Hub, but the push is private",
                hint='make the repository private, or push with `"private": false`',
            )
        assert info.sha is not None  # noqa: S101
        return info.sha

    def _files(self, revision: str) -> dict[str, int]:
        """Path and size in bytes of every file at a revision."""
        tree = self._api.list_repo_tree(self._repo_id, repo_type=KIND, revision=revision, recursive=True)
        return {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}

    def _tagged(self) -> str | None:
        tags = self._api.list_repo_refs(self._repo_id, repo_type=KIND).tags
        return next((tag.target_commit for tag in tags if tag.name == TAG), None)

    def _check_descent(self, revision: str, files: Mapping[str, int]) -> None:
        """Raise HubForeignContent unless the revision is empty or holds some of the same recordings."""
        content = sorted(path for path in files if path not in (".gitattributes", README))
        if not content:
            return
        if 0 < files.get(layout.PROVENANCE, 0) <= MAX_PROVENANCE_BYTES:
            streams = _streams(self._read(layout.PROVENANCE, revision))
            if streams & set(self._parcel.streams):
                return
        raise HubForeignContent(
            (
                f"{self._repo_id} on the Hub holds other content, for example {content[0]}, "
                "and is not overwritten"
            ),
            hint='choose another repo_id, or push with `"overwrite": true`',
        )

    def _own_card(self, revision: str, files: Mapping[str, int]) -> bool:
        """Whether the card may be written: there is none, or it is one of ours."""
        if README not in files:
            return True
        return files[README] <= MAX_CARD_BYTES and MARK.encode() in self._read(README, revision)

    def _read(self, path: str, revision: str) -> bytes:
        # Not the cache of this machine's user, which would grow with every push.
        with tempfile.TemporaryDirectory(prefix="hub-") as folder:
            found = self._api.hf_hub_download(
                self._repo_id, path, repo_type=KIND, revision=revision, cache_dir=folder
            )
            return Path(found).read_bytes()

    def _additions(self, head: str, remote: Mapping[str, int]) -> list[CommitOperationAdd]:
        folder = self._parcel.folder
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        named = {path.relative_to(folder).as_posix(): path for path in paths}
        provenance = json.loads(named.pop(layout.PROVENANCE).read_bytes())
        size_bytes = sum(path.stat().st_size for path in paths)
        additions = [CommitOperationAdd(name, path) for name, path in named.items()]
        additions.append(CommitOperationAdd(layout.PROVENANCE, self._signed(provenance)))
        if self._wanted.overwrite or self._own_card(head, remote):
            additions.append(CommitOperationAdd(README, self._card(provenance, size_bytes)))
        return additions

    def _signed(self, provenance: Mapping[str, Any]) -> bytes:
        """The provenance with what later pushes recognise this one by."""
        origin = {"fingerprint": self._parcel.fingerprint, "streams": sorted(self._parcel.streams)}
        return encode_document({**provenance, "origin": origin})

    def _card(self, provenance: Mapping[str, Any], size_bytes: int) -> bytes:
        folder = self._parcel.folder
        info = json.loads((folder / layout.INFO).read_bytes())
        tasks = pq.read_table(folder / layout.TASKS, columns=["task"]).column("task").to_pylist()
        return card(self._repo_id, info, provenance["report"], tasks, size_bytes).encode()

    def _upload(self, additions: Sequence[CommitOperationAdd], advance: Advance) -> None:
        """Upload the contents of the large files; the small ones travel with the commit."""
        total = sum(addition.upload_info.size for addition in additions)
        done = 0
        advance(done, total)
        for batch in _batches(additions):
            self._send(batch)
            done += sum(addition.upload_info.size for addition in batch)
            advance(done, total)

    def _send(self, batch: Sequence[CommitOperationAdd]) -> None:
        try:
            self._api.preupload_lfs_files(
                self._repo_id,
                batch,
                repo_type=KIND,
                revision=BRANCH,
                num_threads=THREADS,
                # The commit needs the operations once more.
                free_memory=False,
            )
        except RuntimeError as error:
            # What the Hub's faster protocol, Xet, raises whenever it can't go on.
            raise HubUnavailable("the upload to the Hub was interrupted") from error

    def _tag(self, commit: str) -> None:
        tagged = self._tagged()
        if tagged == commit:
            return
        if tagged is not None:
            # The Hub moves no tag. If this ends in between, LeRobot finds none, and the next attempt sets it.
            self._api.delete_tag(self._repo_id, tag=TAG, repo_type=KIND)
        self._api.create_tag(self._repo_id, tag=TAG, revision=commit, repo_type=KIND)


def _batches(additions: Sequence[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    batch: list[CommitOperationAdd] = []
    size = 0
    for addition in additions:
        if batch and (len(batch) >= BATCH_FILES or size + addition.upload_info.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(addition)
        size += addition.upload_info.size
    if batch:
        yield batch


def _streams(provenance: bytes) -> set[str]:
    """The recordings that a pushed dataset names as its origin; none if it is not one of ours."""
    try:
        origin = json.loads(provenance)["origin"]["streams"]
        return {stream for stream in origin if isinstance(stream, str)}
    except (ValueError, LookupError, TypeError):
        return set()


@contextmanager
def _told(repo_id: str) -> Iterator[None]:
    """Whatever goes wrong on the Hub, in this backend's words; never with a token or an address in it."""
    try:
        yield
    except EntryNotFoundError as error:
        raise HubUnavailable(f"{repo_id} changed on the Hub while it was being looked at") from error
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise _refused(repo_id, error.response.status_code) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500 or status == TOO_MANY_REQUESTS or status in MOVED:
            raise HubUnavailable(f"the Hub answered {status} for {repo_id}") from error
        raise _refused(repo_id, status) from error
    except (httpx.HTTPError, ConnectionError, TimeoutError) as error:
        raise HubUnavailable(f"the Hub can't be reached: {type(error).__name__}") from error


def _refused(repo_id: str, status: int) -> HubRefused:
    return HubRefused(
        f"the Hub refused the push to {repo_id} ({status})",
        hint="does the worker's token belong to that user or organisation, and may it write?",
    )
