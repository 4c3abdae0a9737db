"""What may be deleted, and what never is; on real files."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from teleop_client.uploading import FileBytes
from teleop_schema.files import Receipt
from teleop_schema.identifiers import local_path, stored_path
from teleop_sync_agent.keeping.receipts import LocalReceipt, Receipts
from teleop_sync_agent.keeping.state import BackedUpFile, DatasetRow
from teleop_sync_agent.restoring.reaper import NotProven, delete, is_deletable, prove
from teleop_sync_agent.sending.chunking import digest
from teleop_sync_agent.sending.dataset_sync import DatasetPlace
from teleop_testing.datasets.dataset_folders import contents, make_dataset

STORED_AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


class Stored:
    """A dataset all of whose files have their receipts."""

    def __init__(self, root: Path, files: dict[str, bytes] | None = None) -> None:
        self.place = DatasetPlace(root, make_dataset(root / "picking", files=files), "picking")
        self.receipts = Receipts(root)
        self.files: dict[str, BackedUpFile] = {}
        for path in contents(self.place.folder):
            self.store(stored_path(path))

    def store(self, path: str, *, sha256: str | None = None) -> None:
        with (self.place.folder / local_path(path)).open("rb") as file:
            now = os.fstat(file.fileno())
            made = digest(FileBytes(file.fileno()), now.st_size)
        sha256 = sha256 or made.sha256
        self.files[path] = BackedUpFile(
            path,
            now.st_size,
            now.st_mtime_ns,
            now.st_ctime_ns,
            now.st_ino,
            0,
            sha256,
            b"",
            STORED_AT.isoformat(),
        )
        receipt = Receipt(
            kind="dataset",
            robot_id="robot_A",
            path=path,
            size_bytes=now.st_size,
            sha256=sha256,
            stored_at=STORED_AT,
        )
        self.receipts.write(
            LocalReceipt(
                path=f"picking/{path}",
                size_bytes=now.st_size,
                sha256=sha256,
                mtime_ns=now.st_mtime_ns,
                uploaded_at=STORED_AT.isoformat(),
                server="http://backend:8000",
                receipt=receipt,
            )
        )

    def prove(self) -> list[BackedUpFile]:
        return prove(self.place, self.files, self.receipts)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return Stored(tmp_path)


def test_a_proven_dataset(stored):
    """Every file equals its receipt: it is proven, and deleting leaves nothing of it."""
    proven = stored.prove()
    assert {row.path for row in proven} == set(stored.files)
    delete(stored.place.folder, proven)
    assert not stored.place.folder.exists()


def test_files_with_escaped_names(tmp_path):
    """They are proven and deleted as any other, under their own names."""
    stored = Stored(tmp_path, {"arm:left.json": b"{}", ".gitattributes": b""})
    proven = stored.prove()
    assert {"arm%3Aleft.json.escaped", "%2Egitattributes.escaped"} <= {row.path for row in proven}
    delete(stored.place.folder, proven)
    assert not stored.place.folder.exists()


def test_a_flipped_bit_whose_time_was_put_back(stored):
    """Only the bytes count."""
    path = stored.place.folder / "meta/stats.json"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(NotProven, match=r"meta/stats\.json does not match its receipt"):
        stored.prove()


def test_receipts_that_are_missing_or_tell_of_other_bytes(stored):
    """Memory and receipt must both know the file, as it is."""
    stored.store("meta/info.json", sha256="ab" * 32)
    with pytest.raises(NotProven, match=r"meta/info\.json"):
        stored.prove()
    stored.store("meta/info.json")
    stored.receipts.remove("picking/meta/tasks.parquet")
    with pytest.raises(NotProven, match="no receipt"):
        stored.prove()


@pytest.mark.parametrize("name", ["notes.bin", ".hidden", "meta/new.json"])
def test_something_more_in_the_folder(stored, name):
    """A file that nobody stored keeps the whole dataset from being deleted."""
    (stored.place.folder / name).write_text("mine")
    with pytest.raises(NotProven, match="no receipt"):
        stored.prove()


def test_links_in_the_folder(stored, tmp_path):
    """So does a link."""
    (stored.place.folder / "link").symlink_to(tmp_path)
    with pytest.raises(NotProven, match="not a regular file"):
        stored.prove()


def test_what_changed_after_the_proof_stays(stored):
    """A file that somebody writes to between proof and deletion is not deleted."""
    proven = stored.prove()
    (stored.place.folder / "meta/stats.json").write_text("mine")
    (stored.place.folder / "more.txt").write_text("mine, too")
    delete(stored.place.folder, proven)
    assert contents(stored.place.folder) == {"meta/stats.json": b"mine", "more.txt": b"mine, too"}


def test_what_is_never_looked_at():
    """A dataset that is not closed, not stored, or changed since is out of the question."""
    row = {"folder": "/outputs/a", "root": "/outputs", "name": "a"}
    good = {"state": "stored", "verdict": "finalised", "finalised": True}
    assert is_deletable(DatasetRow(**row, **good))
    for change in (
        {"state": "failed"},
        {"state": "sending"},
        {"finalised": False},
        {"verdict": "dead"},
        {"verdict": "busy"},
    ):
        assert not is_deletable(DatasetRow(**row, **(good | change)))
