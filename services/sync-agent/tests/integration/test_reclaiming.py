"""Room is made on a full disk, and the last copy of nothing is deleted for it."""

import asyncio
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from teleop_dataset.folder import INFO
from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.restoring import reaper
from teleop_sync_agent.sending import tender
from teleop_sync_agent.status import describe_note
from teleop_testing.datasets.dataset_folders import contents, make_dataset
from teleop_testing.machine.disks import disk_of
from teleop_testing.waiting import PATIENCE_S, until

EVERYTHING = 10**18  # bytes that no disk has free


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "CHECK_S", 0.05)


@pytest.mark.parametrize("bytes_there", [None, b"its own byteS", b"short"])
async def test_what_the_server_lost_is_not_deleted(make_agent, backend, outputs, running, bytes_there):
    """It reads all bytes again first: the last copy stays, which is told, and is brought again."""
    folder = make_dataset(outputs / "picking", files={"extra/own.json": b"its own bytes"})
    before = contents(folder)
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    sha256 = hashlib.sha256(b"its own bytes").hexdigest()
    del backend.objects[sha256]
    if bytes_there is not None:
        backend.objects[sha256] = bytes_there
    agent = make_agent(reclaim_below=EVERYTHING)
    told = []
    note = agent.datasets.note

    async def listen(tended, **changes):
        await note(tended, **changes)
        told.append(describe_note(tended.row))

    agent.datasets.note = listen
    async with running(agent):
        await until(lambda: backend.objects.get(sha256) == b"its own bytes")
        await until(lambda: agent.state.dataset(str(folder)).state == "stored")
    assert "not deleted to free space: extra/own.json is damaged on the server: it is not what it was" in told
    assert contents(folder) == before


@pytest.mark.parametrize("code", ["not_found", "storage_unavailable"])
async def test_a_server_that_can_not_read_its_bytes(make_agent, backend, outputs, running, code):
    """One that is of an older release, or whose disk is away, has proven nothing."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    backend.refusals.append(("POST", "/datasets/robot_A/picking/verify", 503, code))
    agent = make_agent(reclaim_below=EVERYTHING)
    async with running(agent):
        await until(lambda: code in agent.state.dataset(str(folder)).kept)
    assert folder.exists()


async def test_what_the_server_has_is_deleted(make_agent, backend, outputs, running):
    """What was proven on both sides goes."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent(reclaim_below=EVERYTHING)
    async with running(agent):
        await until(lambda: not folder.exists())
    assert agent.datasets.tended[folder].row.state == "reclaimed"
    assert "POST /datasets/robot_A/picking/verify" in backend.requests


def row_of(agent, folder: Path) -> DatasetRow:
    return agent.state.dataset(str(folder)) or DatasetRow(folder=str(folder), root="", name="")


async def test_a_server_that_restarts_does_not_keep_the_disk_full(
    make_agent, backend, outputs, running, monkeypatch
):
    """Once it answers again, the dataset goes, and not only an hour later."""
    monkeypatch.setattr(reaper, "RETRY_INTERRUPTED_S", 0.1)
    folder = make_dataset(outputs / "picking")
    backend.refusals.append(("POST", "/datasets/robot_A/picking/verify", 503, "storage_unavailable"))
    async with running(make_agent(reclaim_below=EVERYTHING)):
        await until(lambda: not folder.exists())
    assert not backend.refusals


async def test_recording_goes_on_while_the_server_reads(make_agent, backend, outputs, running):
    """A dataset that changes after its proof is kept whole, not only the files that changed."""
    folder = make_dataset(outputs / "picking")
    before = contents(folder)

    async def resume(request):
        if request.path.endswith("/verify"):
            pictures = folder / "images/observation.images.front/episode-000002"
            pictures.mkdir(parents=True, exist_ok=True)
            (pictures / "frame-000000.png").write_bytes(b"a picture")

    backend.before = resume
    agent = make_agent(reclaim_below=EVERYTHING)
    async with running(agent):
        await until(
            lambda: "frame-000000.png was modified while it was being proven" in row_of(agent, folder).kept
        )
    assert before.items() <= contents(folder).items()


async def test_a_deletion_that_takes_long(make_agent, backend, outputs, running, monkeypatch):
    """What is left meanwhile is not saved as a dataset whose recorder died."""
    monkeypatch.setattr(tender, "LOOK_AGAIN_S", 0.05)
    folder = make_dataset(outputs / "picking")
    agent = make_agent(reclaim_below=EVERYTHING, quiet_ns=1)
    delete = reaper.delete

    def slowly(folder, files):
        (folder / INFO).unlink()
        deadline = time.monotonic() + 1.5  # several looks
        while time.monotonic() < deadline and len(backend.versions["robot_A", "picking"]) == 1:
            time.sleep(0.05)
        delete(folder, files)

    monkeypatch.setattr(reaper, "delete", slowly)
    async with running(agent):
        await until(lambda: (outputs / ".uploaded/picking/reclaimed.json").exists())
        assert agent.state.dataset(str(folder)).state == "reclaimed"
    assert len(backend.versions["robot_A", "picking"]) == 1


@pytest.mark.parametrize("begun", [True, False])
async def test_a_deletion_that_is_refused(make_agent, backend, outputs, running, monkeypatch, begun):
    """The agent goes on with the rest and says why; what was begun is finished once that is possible."""
    monkeypatch.setattr(reaper, "RETRY_S", 0.1)
    folder = make_dataset(outputs / "picking")
    agent = make_agent(reclaim_below=EVERYTHING, quiet_ns=1)
    delete, refused = reaper.delete, []

    def refuse(folder, files):
        if len(refused) == 3:
            return delete(folder, files)
        if begun:
            (folder / INFO).unlink(missing_ok=True)
        refused.append(folder)
        raise PermissionError(errno.EPERM, "Operation not permitted", str(folder / "data"))

    monkeypatch.setattr(reaper, "delete", refuse)
    async with running(agent):
        await until(lambda: row_of(agent, folder).kept == f"{folder / 'data'}: Operation not permitted")
        await until(lambda: (outputs / ".uploaded/picking/reclaimed.json").exists())
        assert not folder.exists()
        assert agent.state.dataset(str(folder)).state == "reclaimed"
    assert len(backend.versions["robot_A", "picking"]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
async def test_a_folder_in_which_nothing_can_be_deleted(make_agent, outputs, running):
    """The dataset is left as it is, whole."""
    folder = make_dataset(outputs / "picking")
    before = contents(folder)
    videos = folder / "data/chunk-000"
    videos.chmod(0o555)
    agent = make_agent(reclaim_below=EVERYTHING)
    async with running(agent):
        await until(lambda: f"{videos} can't be written to by this user" in row_of(agent, folder).kept)
        assert contents(folder) == before
    videos.chmod(0o755)


async def test_a_watched_folder_that_goes_away(make_agent, outputs, running, tmp_path):
    """A disk that is taken out ends no agent that may free space on it."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent(reclaim_below=1)
    async with running(agent):
        await until(lambda: row_of(agent, folder).state == "stored")
        outputs.rename(tmp_path / "taken")
        await asyncio.sleep(0.5)  # several rounds
        (tmp_path / "taken").rename(outputs)


async def test_only_the_disk_that_is_full_is_cleared(make_agent, outputs, running, monkeypatch):
    """What is mounted below the watched folder from another disk stays: deleting it would free nothing."""
    full, other = make_dataset(outputs / "here"), make_dataset(outputs / "mounted/there")
    usage = shutil.disk_usage

    def measured(path):
        return usage(path)._replace(free=EVERYTHING if other in (path, *path.parents) else 0)

    monkeypatch.setattr(reaper.shutil, "disk_usage", measured)
    agent = make_agent(reclaim_below=EVERYTHING)
    assert await agent.once(PATIENCE_S) == []
    async with running(agent):
        await until(lambda: not full.exists())
        await asyncio.sleep(0.2)
    assert other.exists()


async def test_a_reclaimed_dataset_that_is_being_copied_back(make_agent, outputs, running, tmp_path):
    """With its old times and even its old inodes, and its info.json last: it is somebody's copy."""
    folder = make_dataset(outputs / "picking")
    shutil.copytree(folder, tmp_path / "copy", copy_function=os.link)
    copied = contents(folder)
    agent = make_agent(reclaim_below=EVERYTHING)
    async with running(agent):
        await until(lambda: (outputs / ".uploaded/picking/reclaimed.json").exists())
        folder.mkdir()
        (tmp_path / "copy/data").rename(folder / "data")
        await asyncio.sleep(0.5)  # several rounds
    del copied["meta/info.json"]
    assert contents(folder).items() <= copied.items()
    assert contents(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MiB."""
    with disk_of(tmp_path / "disk", 40 << 20) as folder:
        yield folder


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.root("a small disk is mounted")
@pytest.mark.parametrize("runs", [True, False])
async def test_a_disk_that_is_full_to_the_last_byte(make_agent, small_disk, running, runs):
    """An agent makes room, be it that it runs by then or is started on the full disk."""
    outputs = small_disk / "outputs"
    folder = make_dataset(outputs / "picking", files={"extra/large.json": bytes(4_000_000)})
    here = {"roots": (outputs,), "state_dir": small_disk / "state", "reclaim_below": 10_000_000}
    agent = make_agent(**here)
    assert await agent.once(PATIENCE_S) == []
    if not runs:
        agent.close()
        fill(small_disk)
        agent = make_agent(**here)
    async with running(agent):
        if runs:
            fill(small_disk)
        await until(lambda: (outputs / ".uploaded/picking/reclaimed.json").exists())
        assert not folder.exists()
    with closing(AgentState(small_disk / "state/robot_A.sqlite")) as state:
        assert state.dataset(str(folder)).state == "reclaimed"
