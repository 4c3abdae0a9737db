"""A database that stands still while fifty robots send as fast as they can, without a window."""

import asyncio
import signal
from pathlib import Path

import asyncpg
import psutil
import pytest
from resending import ResendingRobot
from teleop_backend.postgres import EmbeddedPostgres
from teleop_testing.backends.processes import own_postgres, telemetry_process
from teleop_testing.waiting import until

ROBOTS = 50
# As long as several commits are waited for by this service, see `impatient_service`.
PAUSE_S = 15
SAMPLES_PER_S = 5
# Of the service, over what its libraries take before the first robot comes. Fifty robots that send as fast as
# they can would fill any memory that is not bounded.
MAX_GROWTH_BYTES = 192 * 2**20
BATCH_FRAMES = 600
NO_WINDOW = 2**30
FIRST_FRAMES = 2 * BATCH_FRAMES

DEFECTS = """
SELECT s.id, s.next_frame_index, s.logged_frames, s.status, count(f.*) AS frames,
       count(DISTINCT f.frame_index) AS indexes, min(f.frame_index) AS first, max(f.frame_index) AS last
  FROM teleop_session s LEFT JOIN teleop_frame f ON f.session_id = s.id
 GROUP BY s.id
HAVING NOT (s.status = 'complete' AND s.logged_frames = s.next_frame_index
            AND count(f.*) = s.next_frame_index AND count(DISTINCT f.frame_index) = s.next_frame_index
            AND min(f.frame_index) = 0 AND max(f.frame_index) = s.next_frame_index - 1
            AND bool_and(f.state = ARRAY[f.frame_index, f.frame_index + 0.25]::real[]))
"""


def signal_all(postgres: EmbeddedPostgres, number: signal.Signals) -> None:
    """Send a signal to PostgreSQL and all its backends."""
    postmaster = psutil.Process(postgres.pid)
    for process in (*postmaster.children(recursive=True), postmaster):
        process.send_signal(number)


async def paused_rss(postgres: EmbeddedPostgres, service: psutil.Process) -> int:
    """The most memory that the service has while the database is paused."""
    signal_all(postgres, signal.SIGSTOP)
    most = 0
    try:
        for _ in range(PAUSE_S * SAMPLES_PER_S):
            most = max(most, service.memory_info().rss)
            await asyncio.sleep(1 / SAMPLES_PER_S)
    finally:
        signal_all(postgres, signal.SIGCONT)
    return most


@pytest.mark.long("the database stands still")
async def test_paused_database_costs_neither_memory_nor_frames(monkeypatch):
    """The service's memory stays bounded, and once the database goes on, every frame is there once."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with own_postgres() as postgres, telemetry_process(postgres.url(), "impatient_service") as service:
        process = psutil.Process(service.pid)
        idle = process.memory_info().rss
        robots = [
            ResendingRobot(
                f"robot_{number}", [service.address], batch_frames=BATCH_FRAMES, window_batches=NO_WINDOW
            )
            for number in range(ROBOTS)
        ]
        async with asyncio.TaskGroup() as tasks:
            for robot in robots:
                tasks.create_task(robot.run())
            await until(lambda: all(robot.acked >= FIRST_FRAMES for robot in robots))
            before = {robot: robot.acked for robot in robots}
            most = await paused_rss(postgres, process)
            for robot in robots:
                robot.end(before[robot] + 2 * FIRST_FRAMES)
        assert all(robot.acked > before[robot] for robot in robots)
        database = await asyncpg.connect(postgres.url())
        assert await database.fetch(DEFECTS) == []
        assert await database.fetchval("SELECT count(*) FROM teleop_session") == ROBOTS
        await database.close()
    assert most - idle < MAX_GROWTH_BYTES, f"{idle / 2**20:.0f} MiB idle, then {most / 2**20:.0f} MiB"
