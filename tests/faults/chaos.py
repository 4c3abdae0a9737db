"""Faults at random under load, then the account: `python tests/faults/chaos.py --faults 1000 --seed 7`.

Robots stream through a line to two replicas of telemetry-service, an agent brings datasets and video to
video-ingest-service, export-service and a worker beside it make exports, all on one PostgreSQL. A schedule
drawn from the seed hurts one of them after the other. What was acknowledged, called stored or called done
must be there at every moment, and when all is quiet again everything that was logged and recorded, exactly
once and whole.
"""

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import asyncpg
import psutil
from chaos_exports import Exports
from chaos_files import Files
from chaos_line import line_to
from chaos_robots import Faults, Robots
from file_accounts import Stored
from teleop_testing.backends.processes import (
    ServiceProcess,
    export_process,
    export_worker,
    ingest_process,
    own_postgres,
    telemetry_process,
)

REPLICAS = 2
PARTS = ("robots", "files", "exports")
MOST_ABOVE_IDLE_BYTES = 256 * 1024**2


class Chaos:
    """The system under test, or some parts of it, and everything that may happen to it."""

    def __init__(
        self, stack: ExitStack, folder: Path, seed: int, parts: Collection[str], telemetry: str
    ) -> None:
        self.chance = random.Random(seed)
        self.postgres = stack.enter_context(own_postgres())
        url, store = self.postgres.url(), folder / "store"
        self.telemetry = [telemetry_process(url, telemetry) for _ in range(REPLICAS)]
        ingest = ingest_process(url, store)
        export = export_process(url, store, folder / "exports")
        worker = export_worker(url, store, folder / "exports")
        wanted = {"robots": self.telemetry, "files": [ingest], "exports": [export, worker]}
        self.services = [service for part in parts for service in wanted[part]]
        start(stack, self.services)
        self._idle_bytes = {service: _memory_bytes(service) for service in self.services}
        ports = [service.port for service in self.telemetry]
        self.line = stack.enter_context(line_to(ports, [ingest.port] if "files" in parts else ports))
        self.robots = self.files = self.exports = self.stored = None
        if "robots" in parts:
            address = f"127.0.0.1:{self.line.port}"
            self.robots = Robots(address, folder, self.telemetry, self.chance)
            stack.callback(self.robots.end_all)
        if "files" in parts:
            self.stored = Stored(store)
            robot_pc = folder / "robot_0"
            robot_pc.mkdir(exist_ok=True)
            self.files = Files(stack, self.line, robot_pc, ingest, self.stored, self.chance)
        if "exports" in parts:
            self.exports = Exports(url, export, worker, folder / "exports", self.chance)
        self.faults: Faults = {
            "cut line": self._cut_line,
            "stall line": self._stall_line,
            "crash postgres": self._crash_postgres,
            "crash postgres and look": self._crash_postgres_and_look,
            "end backends": self._end_backends,
            "lock sessions": self._lock_sessions,
        }
        for part in (self.robots, self.files, self.exports):
            self.faults |= part.faults() if part is not None else {}

    def schedule(self, only: Collection[str]) -> Iterator[str]:
        """Names of faults without end: all kinds, or `only` these, in ever another order."""
        names = sorted(only or self.faults)
        while True:
            self.chance.shuffle(names)
            yield from names

    def let_happen(self, name: str) -> None:
        """Let a fault happen."""
        self.faults[name]()
        time.sleep(self.chance.uniform(0.1, 0.6))

    async def told_is_true(self) -> None:
        """Raise AssertionError if more was acknowledged, called stored or done than is there."""
        told = self.robots.acknowledged() if self.robots is not None else {}
        receipts = self.files.receipts() if self.files is not None else []
        connection = await asyncpg.connect(self.postgres.url())
        try:
            rows = await connection.fetch("SELECT stream_id::text, next_frame_index FROM teleop_session")
            durable = {row["stream_id"]: row["next_frame_index"] for row in rows}
            for stream, frames in told.items():
                there = durable.get(stream, 0)
                assert frames <= there, f"{stream}: {frames} frames were acknowledged, {there} are there"
            if self.files is not None:
                await self.files.check_receipts(receipts, connection)
            if self.exports is not None:
                await self.exports.published_are_whole(connection)
        finally:
            await connection.close()

    async def account(self, look_at: Callable[[Path], object]) -> str:
        """Wait until all is quiet, and check it whole; in words what there is.

        look_at  is given each published export, too
        """
        found, filmed = [], []
        if self.robots is not None:
            current_s = await asyncio.to_thread(self.robots.wait_until_current)
            await asyncio.to_thread(self.robots.end)
            frames, filmed = await self.robots.account(self.postgres.url(), self.stored)
            found.append(
                f"sessions={len(self.robots.ended)} frames={frames} pictures={self.robots.pictures} "
                f"current_again_s={current_s:.1f}"
            )
        if self.files is not None:
            datasets = await asyncio.to_thread(self.files.account)
            found.append(f"datasets={datasets} uploads_hit={self.files.hits}")
        if self.exports is not None:
            made = await self.exports.account(filmed)
            for folder in made:
                look_at(folder)
            found.append(
                f"exports={len(made)} exports_hit={self.exports.hits} failed={self.exports.failures}"
            )
        for service in self.services:
            taken = _memory_bytes(service) - self._idle_bytes[service]
            assert taken < MOST_ABOVE_IDLE_BYTES, f"{service.module} holds {taken} bytes more than at first"
        return " ".join(found)

    def _cut_line(self) -> None:
        self.line.cut()
        time.sleep(self.chance.uniform(0, 0.5))
        self.line.mend()

    def _stall_line(self) -> None:
        self.line.stall()
        time.sleep(self.chance.uniform(0.2, 2))
        self.line.flow()

    def _crash_postgres(self) -> None:
        self.postgres.stop(signal.SIGQUIT)
        time.sleep(self.chance.uniform(0, 0.5))
        self.postgres.start()

    def _crash_postgres_and_look(self) -> None:
        """What it came back with is read before anybody can send again what the crash took."""
        self.postgres.stop(signal.SIGQUIT)
        for service in self.services:
            os.kill(service.pid, signal.SIGSTOP)
        try:
            self.postgres.start()
            asyncio.run(self.told_is_true())
        finally:
            for service in self.services:
                os.kill(service.pid, signal.SIGCONT)

    def _end_backends(self) -> None:
        asyncio.run(
            self._in_database(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'lerobot-backend'"
            )
        )

    def _lock_sessions(self) -> None:
        asyncio.run(
            self._in_database("BEGIN; LOCK TABLE teleop_session IN SHARE MODE; SELECT pg_sleep(1); COMMIT")
        )

    async def _in_database(self, statements: str) -> None:
        connection = await asyncpg.connect(self.postgres.url())
        await connection.execute(statements)
        await connection.close()


def start(stack: ExitStack, services: Iterable[ServiceProcess]) -> None:
    """Start them all at once."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(stack.enter_context, services))


def _memory_bytes(service: ServiceProcess) -> int:
    return int(psutil.Process(service.pid).memory_info().rss)


async def run(
    faults: int,
    seed: int,
    *,
    parts: Collection[str] = PARTS,
    only: Collection[str] = (),
    telemetry: str = "teleop_telemetry",
    look_at: Callable[[Path], object] = lambda _: None,
) -> None:
    """Raise AssertionError, naming the seed, if anything was lost, doubled, or said to be safe too early.

    parts      of the system that are there
    only       names of the faults to choose from; none: all kinds
    telemetry  what to run as telemetry-service
    look_at    is given the folder of each export in the end, and raises AssertionError if it is not right
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        chaos = await asyncio.to_thread(Chaos, stack, folder, seed, parts, telemetry)
        happened: list[str] = []
        try:
            for name in islice(chaos.schedule(only), faults):
                happened.append(name)
                print(f"{len(happened):5d} {name}", flush=True)
                await asyncio.to_thread(chaos.let_happen, name)
                await chaos.told_is_true()
            account = await chaos.account(look_at)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, after {happened[-5:]}: {error}") from error
        print(f"seed={seed} faults={faults} {account} lost=0 doubled=0")


def open_in_lerobot(folder: Path) -> None:
    """LeRobot opens the export and reads its first and its last frame."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("chaos/export", root=folder)
    assert len(dataset) > 0
    for row in (0, len(dataset) - 1):
        assert dataset[row]["index"] == row


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    asyncio.run(run(arguments.faults, arguments.seed, look_at=open_in_lerobot))
