"""Room is made on a full disk, and the last copy of nothing is deleted for it."""

import hashlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from teleop_sync_agent.keeping.state import AgentState
from teleop_sync_agent.restoring import reaper
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
