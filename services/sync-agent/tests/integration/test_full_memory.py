"""The disk of the agent's memory fills up while `sync-agent run` works, and has room again."""

import asyncio
from contextlib import suppress

import pytest
from teleop_sync_agent import running
from teleop_sync_agent.agent import Agent
from teleop_sync_agent.settings import make_settings
from teleop_testing.datasets.dataset_folders import make_dataset
from teleop_testing.machine.disks import disk_of
from teleop_testing.waiting import PATIENCE_S, until


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MiB."""
    with disk_of(tmp_path / "disk", 4 << 20) as folder:
        yield folder


def fill(disk):
    """To the last byte."""
    with (disk / "filler").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def without_bars(agent, work):
    await work


@pytest.mark.root("a small disk is mounted")
async def test_a_full_disk_of_the_memory_is_waited_for(
    small_disk, backend, outputs, tmp_path, monkeypatch, caplog
):
    """It is named once; with room, all that was recorded meanwhile is stored, and known to be."""
    monkeypatch.setattr(running, "ROOM_AGAIN_S", 0.1)
    make_dataset(outputs / "before", files={"extra/large.json": bytes(100_000)})
    settings = make_settings(
        server=backend.url,
        robot_id="robot_A",
        watch=[outputs],
        spool=tmp_path / "spool",
        state_dir=small_disk / "state",
    )
    working = asyncio.create_task(running.run(settings, without_bars))

    def stored(name):
        return ("robot_A", name) in backend.versions

    await until(lambda: stored("before") or working.done())
    fill(small_disk)
    for number in range(20):
        make_dataset(outputs / f"meanwhile-{number}")

    def told():
        return [each for each in caplog.records if each.message == "waiting for space"]

    await until(lambda: told() or working.done())
    assert not working.done()
    assert f"the agent's memory {small_disk / 'state/robot_A.sqlite'} can't be used" in told()[0].error
    (small_disk / "filler").unlink()
    await until(lambda: all(stored(f"meanwhile-{number}") for number in range(20)) or working.done())
    assert not working.done()
    assert len(told()) == 1
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    # Nothing is sent again.
    agent = Agent(settings)
    before = backend.received_bytes
    assert await agent.once(PATIENCE_S) == []
    assert backend.received_bytes == before
    assert {row.state for row in agent.state.datasets()} == {"stored"}
    agent.close()
