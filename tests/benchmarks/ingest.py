"""Durable frames per second at saturation, beside what PostgreSQL takes and what a plain INSERT gives."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import numpy as np
import uvloop
from figures import Figure, at_least
from load import JOINTS, connect, frames_batch, message_of
from teleop_telemetry.frames.block import block_of_batch
from teleop_telemetry.frames.columns import COLUMNS, encode_rows
from teleop_testing.backends.processes import own_postgres, telemetry_process

ROUNDS = 3
ROBOTS = 20
BATCH_FRAMES = 600
BATCHES = 20
WINDOW = 4
COPY_ROWS = 6000
FRAMES = ROBOTS * BATCH_FRAMES * BATCHES
INSERT_FRAMES = 30_000


def run() -> list[Figure]:
    with own_postgres() as postgres, telemetry_process(postgres.url()) as service:
        rounds = [uvloop.run(one_round(postgres.url(), service.port, number)) for number in range(ROUNDS)]
    ours, ceiling, literal = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return [
        Figure("WebSocket to ack, 20 robots, batches of 600 frames", ours, "frames/s"),
        Figure("binary COPY of the same rows, prebuilt, 6000 a commit", ceiling, "frames/s"),
        Figure("one INSERT of 60 JSON rows per robot-second", literal, "frames/s"),
        at_least("ours / COPY", statistics.median(a / b for a, b, _ in rounds), "x", 0.4),
        at_least("ours / INSERT", statistics.median(a / c for a, _, c in rounds), "x", 5),
    ]


async def one_round(database_url: str, port: int, number: int) -> tuple[float, float, float]:
    """Rates of the service, of COPY and of INSERT, in frames/s."""
    return (
        await through_the_service(port),
        await by_copy(database_url, number),
        await by_insert(database_url),
    )


async def through_the_service(port: int) -> float:
    robots = await connect(port, ROBOTS)
    messages = [message_of(frames_batch(number * BATCH_FRAMES, BATCH_FRAMES)) for number in range(BATCHES)]
    begun = time.perf_counter()

    async def saturate(robot) -> None:
        for number, message in enumerate(messages):
            robot.send(message, (number + 1) * BATCH_FRAMES)
            await robot.acknowledged((number + 1 - WINDOW) * BATCH_FRAMES)
        await robot.acknowledged(BATCHES * BATCH_FRAMES)

    await asyncio.gather(*(saturate(robot) for robot in robots))
    rate = FRAMES / (time.perf_counter() - begun)
    for robot in robots:
        robot.transport.close()
    return rate


async def by_copy(database_url: str, number: int) -> float:
    """Rows of the same shape, encoded before the clock starts, into the same table."""
    session = 900_000 + number
    connection = await asyncpg.connect(database_url)
    await connection.execute("SELECT ensure_frame_partition($1)", session)
    batches = [block_of_batch(frames_batch(first, 3000), 6, 6) for first in range(0, FRAMES, 3000)]
    encoded = [encode_rows([session] * 2, batches[at : at + 2]) for at in range(0, len(batches), 2)]

    async def copy_half(connection: asyncpg.Connection, half: list[bytes]) -> None:
        for rows in half:

            async def source(rows: bytes = rows) -> AsyncIterator[bytes]:
                yield rows

            await connection.copy_to_table(
                "teleop_frame", source=source(), format="binary", columns=COLUMNS.names
            )

    # On two connections, as the service has them.
    second = await asyncpg.connect(database_url)
    begun = time.perf_counter()
    await asyncio.gather(copy_half(connection, encoded[::2]), copy_half(second, encoded[1::2]))
    rate = FRAMES / (time.perf_counter() - begun)
    await connection.close()
    await second.close()
    return rate


async def by_insert(database_url: str) -> float:
    """The simplest thing: a table with a JSON column, and a statement a second and robot."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """CREATE TABLE IF NOT EXISTS json_frame (
               id bigserial PRIMARY KEY, session_id bigint, frame_index bigint,
               "timestamp" timestamptz DEFAULT now(), data jsonb)"""
    )
    values = np.sin(np.arange(60)[:, None] / 60 + np.arange(12))
    frames = [
        {
            "observation": dict(zip(JOINTS, row[:6], strict=True)),
            "action": dict(zip(JOINTS, row[6:], strict=True)),
        }
        for row in values.tolist()
    ]
    begun = time.perf_counter()
    for first in range(0, INSERT_FRAMES, 60):
        await connection.execute(
            "INSERT INTO json_frame (session_id, frame_index, data) "
            "SELECT 1, i, d::jsonb FROM unnest($1::bigint[], $2::text[]) AS f(i, d)",
            list(range(first, first + 60)),
            [msgspec.json.encode(frame).decode() for frame in frames],
        )
    rate = INSERT_FRAMES / (time.perf_counter() - begun)
    await connection.close()
    return rate
