"""Power cuts of the server, PostgreSQL and store on a disk: `python tests/faults/server_power.py --cuts 30`.

Robots stream and files arrive all the while. After each cut a PostgreSQL of its own recovers what is left:
every frame that was acknowledged and every file that has its receipt is there, whole, and of uploads that go
on every byte that their clients were told of.
"""

import argparse
import asyncio
import hashlib
import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
from cut_disk import CutDisk, cut_disk
from resending import ResendingRobot
from teleop_backend.postgres import EmbeddedPostgres
from teleop_client.uploading import Uploader
from teleop_schema.files import FilePlan
from teleop_schema.migrate import migrate
from teleop_testing.backends.processes import ingest_process, telemetry_process
from teleop_testing.datasets.files import dataset_file
from teleop_testing.robots.tus import create, patch
from teleop_testing.waiting import PATIENCE_S, wait_for

ROBOTS = 3
PACE_S = 0.05
FILE_BYTES = 300_000
# Of an upload that never ends; a robot has so many.
PIECE_BYTES = 20_000
PIECES = 5
UPLOADS = 50


class Bytes:
    """A file in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


@dataclass
class Told:
    """What the server has said that it has.

    acked     stream -> frames
    receipts  path in the store -> SHA-256
    staged    upload -> its first bytes, of those that have not ended
    """

    acked: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    staged: dict[str, bytes] = field(default_factory=dict)


class Load:
    """Robots and uploaders in a thread."""

    def __init__(self, telemetry: str, ingest: str, chance: random.Random) -> None:
        self._told = Told()
        self.robots = [ResendingRobot(f"r{number}", [telemetry], pace_s=PACE_S) for number in range(ROBOTS)]
        self._ingest = ingest
        self._chance = chance
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        work = (*(robot.run() for robot in self.robots), self._upload(), self._stage())
        self._tasks = [asyncio.run_coroutine_threadsafe(one, self._loop) for one in work]

    def told(self) -> Told:
        """All that the server has told until now."""
        for task in self._tasks:
            if task.done():
                task.result()
        acked = {str(robot.stream): robot.acked for robot in self.robots}
        return Told(acked, dict(self._told.receipts), dict(self._told.staged))

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _settle(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _upload(self) -> None:
        async with Uploader(f"http://{self._ingest}") as uploader:
            for number in itertools.count():
                content = self._chance.randbytes(FILE_BYTES)
                file = dataset_file(content, f"data/chunk-000/file-{number:03}.parquet")
                receipt = await uploader.upload(FilePlan(file=file), Bytes(content))
                self._told.receipts[receipt.path] = receipt.sha256

    async def _stage(self) -> None:
        """Begin one upload after the other, and end none."""
        async with httpx.AsyncClient(base_url=f"http://{self._ingest}", timeout=PATIENCE_S) as http:
            for number in itertools.count():
                robot_id = f"slow_{number // UPLOADS}"
                address = await create(
                    http, FILE_BYTES, robot_id=robot_id, path=f"data/file-{number:03}.parquet"
                )
                content = b""
                for _ in range(PIECES):
                    piece = self._chance.randbytes(PIECE_BYTES)
                    answer = await patch(http, address, len(content), piece)
                    content += piece
                    assert answer.headers["Upload-Offset"] == str(len(content)), answer.text
                    self._told.staged[address.rpartition("/")[2]] = content
                    await asyncio.sleep(PACE_S)


@contextmanager
def serving(disk: CutDisk, chance: random.Random) -> Iterator[Load]:
    """PostgreSQL and both services on the disk, under load."""
    postgres = EmbeddedPostgres(disk.path / "data")
    postgres.start()
    try:
        migrate(postgres.url())
        with (
            telemetry_process(postgres.url()) as telemetry,
            ingest_process(postgres.url(), disk.path / "store") as ingest,
        ):
            load = Load(telemetry.address, ingest.address, chance)
            try:
                yield load
            finally:
                load.end()
    finally:
        postgres.stop()


def cut(disk: CutDisk, load: Load) -> str:
    """Cut the power and look; in words what was told to be safe. AssertionError if it is not there."""
    told = load.told()
    with disk.cut() as (left, _):
        check_database(left / "data", told)
        for path, sha256 in told.receipts.items():
            found = hashlib.sha256((left / "store" / path).read_bytes()).hexdigest()
            assert found == sha256, f"{path} is not what was stored"
        for upload, content in told.staged.items():
            there = (left / "store" / ".incoming" / upload).read_bytes()
            assert there.startswith(content), f"{upload}: {len(content)} bytes told, {len(there)} are there"
    return (
        f"{sum(told.acked.values())} frames acknowledged, {len(told.receipts)} files stored, "
        f"{sum(map(len, told.staged.values()))} bytes of {len(told.staged)} uploads told"
    )


def check_database(data: Path, told: Told) -> None:
    """Recover it, and compare."""
    # It names the living server: after a real cut there is none.
    (data / "postgres" / "postmaster.pid").unlink(missing_ok=True)
    recovered = EmbeddedPostgres(data)
    recovered.start()
    try:
        with psycopg.connect(recovered.url()) as connection:
            rows = connection.execute(
                """SELECT stream_id::text, next_frame_index, count(frame_index), max(frame_index)
                     FROM teleop_session LEFT JOIN teleop_frame ON teleop_frame.session_id = teleop_session.id
                    GROUP BY teleop_session.id"""
            ).fetchall()
            uploads = {str(row[0]) for row in connection.execute("SELECT id FROM upload").fetchall()}
    finally:
        recovered.stop()
    assert told.staged.keys() <= uploads, f"unknown: {told.staged.keys() - uploads}"
    held = {stream: (following, count, last) for stream, following, count, last in rows}
    for stream, frames in told.acked.items():
        following, count, last = held.get(stream, (0, 0, None))
        assert following >= frames, f"{stream}: {frames} acknowledged, {following} there"
        assert (count, last) == (following, following - 1 if following else None), f"{stream}: a gap"


def run(cuts: int, seed: int) -> None:
    """Cut so often. Raises AssertionError if something that was told to be safe is not there."""
    chance = random.Random(seed)
    with cut_disk() as disk, serving(disk, chance) as load:
        wait_for(lambda: has_begun(load.told()))
        for number in range(cuts):
            time.sleep(chance.uniform(0, 1))
            print(f"{number + 1:3d} {cut(disk, load)}, all there", flush=True)


def has_begun(told: Told) -> bool:
    """Whether there is something of everything."""
    return bool(min(told.acked.values()) and told.receipts and told.staged)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed={arguments.seed}")
    run(arguments.cuts, arguments.seed)
