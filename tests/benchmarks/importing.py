"""Frames of a stored dataset into the database: read and checked by a confined process, then copied; beside
inserting the same rows one by one."""

import asyncio
import hashlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
from figures import Figure, at_least
from starlette.concurrency import iterate_in_threadpool
from teleop_runtime.postgres.pool import Connection, open_pool
from teleop_runtime.store import open_store
from teleop_telemetry.frames.columns import COLUMNS, encode_tables
from teleop_telemetry.importing.conversion import Converted, converted
from teleop_telemetry.importing.import_table import StoredFile
from teleop_telemetry.importing.importer import BLOCK_FRAMES
from teleop_telemetry.importing.session_rows import create_session
from teleop_telemetry.tables.frame_partition import ensure_partition
from teleop_testing.backends.processes import own_postgres
from teleop_testing.datasets.importable import write_dataset
from teleop_testing.datasets.storing import stored

JOINTS = [f"joint_{number}.pos" for number in range(6)]
# 80 episodes of half a minute at 60 Hz, four times.
EPISODES = [1800] * 320
# So many take some seconds one by one.
ONE_BY_ONE = 20_000
# Of the sources: what it is aimed at.
LEAST_PER_S = 200_000
INSERT = """
INSERT INTO teleop_frame (session_id, frame_index, "timestamp", state, action) VALUES ($1, $2, $3, $4, $5)
"""


def run() -> list[Figure]:
    with own_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(postgres.url(), Path(folder)))


async def measure(url: str, folder: Path) -> list[Figure]:
    source = write_dataset(folder / "dataset", EPISODES, names=JOINTS, added={})
    store = open_store(str(folder / "store"))
    files = []
    for path in sorted(source.rglob("*.*")):
        content = path.read_bytes()
        await stored(store, content)
        name = path.relative_to(source).as_posix()
        files.append(StoredFile(name, hashlib.sha256(content).hexdigest(), len(content), None))
    begun = time.perf_counter()
    async with (
        converted(store, folder / "scratch", files, 0) as made,
        open_pool(url, max_size=1) as pool,
        pool.acquire() as connection,
    ):
        read_s = time.perf_counter() - begun
        for session in (1, 2):
            await create_session(connection, session, "robot_A", made.plan, {})
            await ensure_partition(connection, session)
        copied_s = await copy(connection, made)
        one_by_one_s = await insert(connection, made)
    frames = made.plan.frames
    whole = frames / (read_s + copied_s)
    return [
        at_least("frames imported, all in all", whole, "frames/s", LEAST_PER_S),
        Figure("of that, reading and checking", frames / read_s, "frames/s"),
        Figure("of that, copying to the table", frames / copied_s, "frames/s"),
        Figure("the same rows inserted one by one", ONE_BY_ONE / one_by_one_s, "frames/s"),
        Figure("imported / inserted one by one", whole * one_by_one_s / ONE_BY_ONE, "x"),
    ]


async def copy(connection: Connection, made: Converted) -> float:
    """Seconds that all frames take as session 1, in transactions as an import has them."""
    begun = time.perf_counter()
    tables = made.tables(0)
    block: list[pa.Table] = []
    for table in itertools.chain(tables, [None]):
        if table is not None:
            block.append(table)
        if block and (table is None or sum(map(len, block)) >= BLOCK_FRAMES):
            source: AsyncIterator[bytes] = iterate_in_threadpool(encode_tables(1, block))
            async with connection.transaction():
                await connection.copy_to_table(
                    "teleop_frame", source=source, format="binary", columns=COLUMNS.names
                )
            block = []
    return time.perf_counter() - begun


async def insert(connection: Connection, made: Converted) -> float:
    """Seconds that the first ONE_BY_ONE frames take as session 2, in one transaction."""
    rows = next(iter(made.tables(0))).slice(0, ONE_BY_ONE).to_pylist()
    begun = time.perf_counter()
    async with connection.transaction():
        for row in rows:
            await connection.execute(
                INSERT, 2, row["frame_index"], row["timestamp"], row["state"], row["action"]
            )
    return time.perf_counter() - begun
