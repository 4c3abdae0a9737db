"""Faults at random under load, then the account: `python tests/faults/chaos.py --faults 1000 --seed 7`.

Robots stream through a relay to two replicas of telemetry-service on one PostgreSQL. A schedule drawn from
the seed hurts one of them after the other. What was acknowledged must be in the database at every moment,
and when all is quiet again everything that was logged, exactly once.
"""

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
from accounts import check, check_video, wait_for_ledgers
from lerobot_backend.demo.relay import relay_to
from lerobot_robot_backend.stream import read_progress
from teleop_testing.processes import own_postgres, telemetry_process
from teleop_testing.teleoperation import Teleoperation

ROBOTS = 3
HEAL_TIMEOUT_S = 120.0


class Chaos:
    """The system under test and everything that may happen to it."""

    def __init__(self, stack: ExitStack, folder: Path, seed: int, module: str) -> None:
        self.random = random.Random(seed)
        self.postgres = stack.enter_context(own_postgres())
        self.services = [
            stack.enter_context(telemetry_process(self.postgres.url(), module)) for _ in range(2)
        ]
        self.relay = stack.enter_context(relay_to(*(service.port for service in self.services)))
        self.folders = [folder / f"robot_{number}" for number in range(ROBOTS)]
        self.ended: list[tuple[Teleoperation, str]] = []
        self.pictures = 0
        for path in self.folders:
            path.mkdir()
        self.robots = [self._teleoperate(path) for path in self.folders]
        self.faults = [
            self.kill_service,
            self.stop_service,
            self.freeze_service,
            self.cut_line,
            self.stall_line,
            self.crash_postgres,
            self.crash_postgres_and_look,
            self.end_backends,
            self.lock_sessions,
            self.kill_shipper,
            self.kill_encoder,
            self.kill_teleoperation,
        ]

    def one_fault(self) -> str:
        """Let something happen; returns its name."""
        fault = self.random.choice(self.faults)
        fault()
        time.sleep(self.random.uniform(0.1, 0.6))
        return fault.__name__

    async def acknowledged_is_durable(self) -> None:
        """Raise AssertionError if a robot was told more than the database holds."""
        told = {robot.stream: read_progress(robot.stream_dir).next for robot in self.robots}
        connection = await asyncpg.connect(self.postgres.url())
        rows = await connection.fetch("SELECT stream_id::text, next_frame_index FROM teleop_session")
        await connection.close()
        durable = {row["stream_id"]: row["next_frame_index"] for row in rows}
        for stream, acknowledged in told.items():
            assert acknowledged <= durable.get(stream, 0), f"{stream}: {acknowledged} acknowledged, {durable}"

    async def account(self) -> int:
        """End the robots, wait until all is shipped, check every frame; returns how many there are."""
        for robot in self.robots:
            robot.wait_for_frames(30)
            robot.close()
            self.ended.append((robot, "complete"))
        ledgers = wait_for_ledgers(self.services[0].address, len(self.ended), HEAL_TIMEOUT_S)
        for robot, status in self.ended:
            await check(self.postgres.url(), ledgers[robot.stream], robot, status=status)
            # Their segments stay here: these servers take no files.
            self.pictures += check_video(robot.stream_dir, len(robot.logged()), status=status)
        return sum(ledger["committed"] for ledger in ledgers.values())

    def kill_service(self) -> None:
        service = self.random.choice(self.services)
        service.kill()
        time.sleep(self.random.uniform(0, 0.5))
        service.start()

    def stop_service(self) -> None:
        service = self.random.choice(self.services)
        service.stop()
        service.start()

    def freeze_service(self) -> None:
        service = self.random.choice(self.services)
        os.kill(service.pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 2))
        os.kill(service.pid, signal.SIGCONT)

    def cut_line(self) -> None:
        self.relay.cut()
        time.sleep(self.random.uniform(0, 0.5))
        self.relay.mend()

    def stall_line(self) -> None:
        self.relay.stall()
        time.sleep(self.random.uniform(0.2, 2))
        self.relay.flow()

    def crash_postgres(self) -> None:
        self.postgres.stop(signal.SIGQUIT)
        time.sleep(self.random.uniform(0, 0.5))
        self.postgres.start()

    def crash_postgres_and_look(self) -> None:
        """What it came back with is read before anybody can send again what the crash took."""
        self.postgres.stop(signal.SIGQUIT)
        for service in self.services:
            os.kill(service.pid, signal.SIGSTOP)
        try:
            self.postgres.start()
            asyncio.run(self.acknowledged_is_durable())
        finally:
            for service in self.services:
                os.kill(service.pid, signal.SIGCONT)

    def end_backends(self) -> None:
        asyncio.run(
            self._in_database(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'lerobot-backend'"
            )
        )

    def lock_sessions(self) -> None:
        asyncio.run(
            self._in_database("BEGIN; LOCK TABLE teleop_session IN SHARE MODE; SELECT pg_sleep(1); COMMIT")
        )

    def kill_shipper(self) -> None:
        pid = self.random.choice(self.robots).shipper_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def kill_encoder(self) -> None:
        pid = self.random.choice(self.robots).encoder_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def kill_teleoperation(self) -> None:
        number = self.random.randrange(ROBOTS)
        self.robots[number].wait_for_frames(10)
        self.robots[number].kill()
        self.ended.append((self.robots[number], "interrupted"))
        self.robots[number] = self._teleoperate(self.folders[number])

    def _teleoperate(self, folder: Path) -> Teleoperation:
        return Teleoperation(f"127.0.0.1:{self.relay.port}", folder.name, folder, camera=True)

    async def _in_database(self, statements: str) -> None:
        connection = await asyncpg.connect(self.postgres.url())
        await connection.execute(statements)
        await connection.close()


async def run(faults: int, seed: int, *, only: str | None = None, module: str = "telemetry_service") -> None:
    """Raise AssertionError, naming the seed, if anything was lost, doubled or acknowledged too early.

    only    name of the one fault to inject; None: all kinds
    module  what to run as the service
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        chaos = await asyncio.to_thread(Chaos, stack, folder, seed, module)
        if only is not None:
            chaos.faults = [getattr(chaos, only)]
        happened = []
        try:
            for number in range(faults):
                happened.append(await asyncio.to_thread(chaos.one_fault))
                print(f"{number + 1:5d} {happened[-1]}", flush=True)
                await chaos.acknowledged_is_durable()
            frames = await chaos.account()
        except BaseException as error:
            for robot in chaos.robots:
                robot.kill()
            raise AssertionError(f"seed {seed}, after {happened[-5:]}: {error}") from error
        print(
            f"seed={seed} faults={faults} sessions={len(chaos.ended)} frames={frames} "
            f"pictures={chaos.pictures} lost=0 doubled=0"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    asyncio.run(run(arguments.faults, arguments.seed))
