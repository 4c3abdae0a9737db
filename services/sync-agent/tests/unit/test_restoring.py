"""Archives that are not what the server told of leave nothing behind."""

import hashlib
import io
import tarfile
from functools import partial
from pathlib import Path

import pytest
from teleop_client.tar_stream import MAX_EXTENDED_BYTES, read_archive
from teleop_client.uploading import Interrupted, Refused
from teleop_sync_agent.errors import AgentError
from teleop_sync_agent.restoring.backups import StoredFile, differences
from teleop_sync_agent.restoring.restoring import unpack
from teleop_testing.datasets.dataset_folders import contents

FILES = {"meta/info.json": b"{}", "data/file-000.parquet": b"rows" * 1000}


def told(files: dict[str, bytes]) -> dict[str, StoredFile]:
    return {
        path: StoredFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in files.items()
    }


def unpacked(stream: io.IOBase, folder: Path) -> None:
    """Unpack the archive of the dataset, which is to hold FILES."""
    read_archive(stream, partial(unpack, folder=folder, dataset="me/picking", files=told(FILES)))


def archive(members: dict[str, bytes], *more: tarfile.TarInfo) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    stream.seek(0)
    return stream


def of_dataset(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"me/picking/{path}": content for path, content in files.items()}


def test_a_good_archive(tmp_path: Path):
    """Every file is there, byte for byte."""
    unpacked(archive(of_dataset(FILES)), tmp_path)
    assert contents(tmp_path) == FILES


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/evil.json",
        "me/other/evil.json",
        "me/picking/../../evil.json",
        "me/picking/evil.sh",
    ],
)
def test_paths_outside(tmp_path: Path, name: str):
    """What does not belong to the dataset is not written."""
    with pytest.raises(AgentError, match="holds"):
        unpacked(archive({name: b"evil"}), tmp_path / "in")
    assert not list(tmp_path.rglob("evil*"))


def test_links(tmp_path: Path):
    """An archive has no links."""
    link = tarfile.TarInfo("me/picking/meta/info.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(Refused, match="neither a file nor a folder"):
        unpacked(archive({}, link), tmp_path)


def test_other_bytes(tmp_path: Path):
    """A file with a wrong hash, one that is missing, and a cut archive are all noticed."""
    wrong = FILES | {"meta/info.json": b"[]"}
    with pytest.raises(AgentError, match=r"meta/info\.json does not match"):
        unpacked(archive(of_dataset(wrong)), tmp_path / "a")
    with pytest.raises(AgentError, match="lacks"):
        unpacked(archive(of_dataset({"meta/info.json": b"{}"})), tmp_path / "b")
    cut = io.BytesIO(archive(of_dataset(FILES)).getvalue()[:2500])
    with pytest.raises(Interrupted, match="was cut off"):
        unpacked(cut, tmp_path / "c")


def test_differences():
    """Each file that is not the same on both sides is named with what differs."""
    theirs = told({"a.json": b"one", "b.json": b"two", "c.json": b"three"})
    mine = {path: (file.size_bytes, file.sha256) for path, file in theirs.items()}
    assert list(differences(mine, theirs)) == []
    mine["a.json"] = 9, mine["a.json"][1]
    mine["b.json"] = 3, "ab" * 32
    mine["d.json"] = 1, "cd" * 32
    assert list(differences(mine, theirs)) == [
        ("a.json", "9 bytes here, 3 on the server"),
        ("b.json", "other bytes here than on the server"),
        ("d.json", "not on the server"),
    ]


def test_more_bytes_than_the_server_listed(tmp_path: Path):
    """None of them is written: a hostile server can't fill the disk with one file."""
    files = FILES | {"data/file-000.parquet": bytes(10_000_000)}
    with pytest.raises(AgentError, match=r"holds 10000000 bytes of .*; the server listed 4000"):
        unpacked(archive(of_dataset(files)), tmp_path)
    assert "data/file-000.parquet" not in contents(tmp_path)


def head(kind: bytes, size_bytes: int) -> bytes:
    """The head of a member of that kind, as anybody can write it."""
    member = tarfile.TarInfo("me/picking/x.json")
    member.type, member.size = kind, size_bytes
    return member.tobuf(tarfile.USTAR_FORMAT)


class Endless(io.RawIOBase):
    """An archive that goes on with zeros; counts what is read."""

    def __init__(self, begin: bytes) -> None:
        self._begin = io.BytesIO(begin)
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        self.read_bytes += size
        assert self.read_bytes < 10 * MAX_EXTENDED_BYTES, "it was read into memory"
        return self._begin.read(size).ljust(size, b"\0")


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.GNUTYPE_SPARSE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
    ],
)
def test_what_is_about_a_file_takes_no_memory(tmp_path: Path, kind: bytes):
    """tarfile would read all of it before anybody sees the file, 7 GB as well as 7 bytes."""
    with pytest.raises(Refused, match="the archive holds"):
        unpacked(Endless(head(kind, 7 * 1024**3)), tmp_path)
    assert contents(tmp_path) == {}


def test_holes_of_a_file_are_refused(tmp_path: Path):
    """Their list is in the file itself, and has any length."""
    member = tarfile.TarInfo("me/picking/meta/info.json")
    member.size = 7 * 1024**3
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    begin = member.tobuf(tarfile.PAX_FORMAT) + b"999999999\n".ljust(512, b"1")
    with pytest.raises(Refused, match="with holes"):
        unpacked(Endless(begin), tmp_path)


def test_descriptions_without_end_are_refused(tmp_path: Path):
    """One of another one, and so on."""
    with pytest.raises(Refused, match="nothing but descriptions"):
        unpacked(io.BytesIO(head(tarfile.XHDTYPE, 0) * 100_000), tmp_path)
