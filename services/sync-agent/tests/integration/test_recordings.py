"""The agent beside recordings that go on, paused and slowed down; real files, real sockets."""

import asyncio
import random
import time
from pathlib import Path

from teleop_sync_agent.sending import tender
from teleop_testing.datasets.dataset_folders import RowRecorder, contents, make_dataset
from teleop_testing.waiting import PATIENCE_S, until

LARGE = random.Random(7).randbytes(2_000_000)
LARGE_PATH = "extra/file-000.mp4"


def versions(backend):
    return backend.versions_of("robot_A", "picking")


def row_of(agent, folder: Path):
    return agent.state.dataset(str(folder))


async def test_a_recording_is_followed(make_agent, running, backend, outputs):
    """Every saved episode is backed up while the next one is recorded; the end completes it."""
    agent = make_agent()
    recorder = RowRecorder(outputs / "picking")
    async with running(agent):
        for episode in (1, 2):
            recorder.save_episode()
            await until(
                lambda episode=episode: [v.total_episodes for v in versions(backend)][-1:] == [episode]
            )
            assert not versions(backend)[-1].finalised
        recorder.save_episode()
        recorder.finalise()
        await until(lambda: versions(backend) and versions(backend)[-1].finalised)
    assert backend.stored("robot_A", "picking") == contents(outputs / "picking")
    assert backend.received_bytes < 1.15 * sum(map(len, contents(outputs / "picking").values())) + 30_000


async def test_a_clock_that_is_set_ahead(make_agent, running, backend, outputs, monkeypatch):
    """What has just changed is looked at again soon, though by the clock it is days old."""
    monkeypatch.setattr(tender, "RESCAN_S", 1e6)
    agent = make_agent()
    recorder = RowRecorder(outputs / "picking")
    async with running(agent):
        recorder.save_episode()
        await until(lambda: versions(backend))
        now_ns = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3 * 24 * 3600 * 10**9)
        recorder.save_episode()
        await until(lambda: len(versions(backend)) == 2)
        recorder.finalise()
        await until(lambda: versions(backend)[-1].finalised)


async def test_a_recorder_that_died(make_agent, running, backend, outputs):
    """What it left is stored as it is, and `status` says how to repair it."""
    from teleop_sync_agent.status import describe_note

    recorder = RowRecorder(outputs / "picking")
    recorder.save_episode()
    recorder.die()
    agent = make_agent(quiet_ns=4 * 10**9)
    async with running(agent):
        await until(
            lambda: (row := row_of(agent, recorder.folder)) and (row.verdict, row.state) == ("dead", "stored")
        )
        assert f"sync-agent repair {recorder.folder}" in describe_note(row_of(agent, recorder.folder))
    assert backend.stored("robot_A", "picking") == contents(recorder.folder)
    assert not versions(backend)[-1].finalised


async def test_a_recording_is_not_safe_yet(make_agent, backend, outputs):
    """`once` beside a recording that goes on stores what is saved, and does not call it safe."""
    recorder = RowRecorder(outputs / "picking")
    recorder.save_episode()
    agent = make_agent()
    assert await agent.once(PATIENCE_S)
    assert [version.total_episodes for version in versions(backend)] == [1]
    recorder.die()


async def test_pause_and_resume(make_agent, running, backend, outputs):
    """While paused nothing goes out; then it goes on where it was."""
    agent = make_agent()
    agent.state.paused = True
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    async with running(agent):
        await until(lambda: (row := row_of(agent, folder)) and row.state == "sending")
        await asyncio.sleep(1.0)
        assert backend.received_bytes == 0
        agent.state.paused = False
        await until(lambda: len(versions(backend)) == 1)
    assert backend.stored("robot_A", "picking") == contents(folder)


async def nothing_comes(backend) -> bool:
    """Whether the server has received nothing for a second."""
    before = backend.received_bytes
    await asyncio.sleep(1.0)
    return backend.received_bytes == before


async def test_pause_in_the_middle_of_a_file(make_agent, running, backend, outputs):
    """A file on its way stops before it is whole, and is not begun anew afterwards."""
    agent = make_agent(bandwidth=400_000)
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    async with running(agent):
        await until(lambda: backend.received_bytes > 300_000)
        agent.state.paused = True
        await until(lambda: nothing_comes(backend))
        assert backend.received_bytes < len(LARGE)
        agent.state.paused = False
        await until(lambda: len(versions(backend)) == 1)
    assert backend.received_bytes == sum(map(len, contents(folder).values()))


async def test_bandwidth(make_agent, backend, outputs):
    """A capped upload takes at least the time its bytes need at that rate."""
    make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    assert await make_agent(bandwidth=1_000_000).once(PATIENCE_S) == []
    assert loop.time() - begun_s >= 1.5
