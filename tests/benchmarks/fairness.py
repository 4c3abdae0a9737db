"""Robots at 60 Hz beside one client that sends the largest messages there are, as fast as they are taken.

Robots and client run in processes of their own. Phases without and with the client take turns, so that both
see the same of whatever else the machine does.
"""

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import uvloop
import websockets
from figures import Figure, at_most
from lerobot_robot_backend.shipping.sender import LINGER_S
from load import LoadRobot, connect, frames_batch, message_of
from teleop_schema.limits import MAX_MESSAGE_BYTES
from teleop_testing.backends.processes import own_postgres, telemetry_process

ROBOTS = int(os.environ.get("FAIRNESS_ROBOTS", "300"))
# Opening a session is a transaction of its own; all at once would only queue.
CONNECTED_TOGETHER = 20
PHASES = 6
PHASE_S = 10.0
FRAMES_PER_MESSAGE = round(60 * LINGER_S)
PERIOD_S = FRAMES_PER_MESSAGE / 60
MESSAGES = round(PHASE_S / PERIOD_S)
FORKLESS = multiprocessing.get_context("spawn")


def run() -> list[Figure]:
    with own_postgres() as postgres, telemetry_process(postgres.url()) as service:
        client = started(send_nonstop, service.port)
        robots = started(send_at_60_hz, service.port)
        delays_ms: dict[bool, list[float]] = {False: [], True: []}
        rates: dict[bool, list[float]] = {False: [], True: []}
        for phase in range(PHASES):
            loud = bool(phase % 2)
            client.send(loud)
            robots.send(True)
            delays, rate = robots.recv()
            client.send(False)
            delays_ms[loud] += delays
            rates[loud].append(rate)
        client.send(None)
        robots.send(False)
        sent_bytes = client.recv()
    figures = [Figure("taken of the client", sent_bytes / 1e6 / (PHASES / 2 * PHASE_S), "MB/s")]
    for loud, name in ((False, "without the client"), (True, "beside the client")):
        p50, p99 = np.percentile(delays_ms[loud], [50, 99])
        figures += [
            Figure(
                f"{name}: acknowledged of {60 * ROBOTS:,} frames/s", float(np.median(rates[loud])), "frames/s"
            ),
            Figure(f"{name}: send to durable, p50", p50, "ms"),
            at_most(f"{name}: send to durable, p99", p99, "ms", 250),
        ]
    return figures


def started(work: Callable[[int, Connection], None], port: int) -> Connection:
    """A process that is ready for orders."""
    here, there = FORKLESS.Pipe()
    FORKLESS.Process(target=work, args=(port, there), daemon=True).start()
    here.recv()
    return here


def send_at_60_hz(port: int, orders: Connection) -> None:
    """For each order that is True: a phase, answered with the delays in ms and the frames per second."""
    uvloop.run(_send_at_60_hz(port, orders))


async def _send_at_60_hz(port: int, orders: Connection) -> None:
    robots: list[LoadRobot] = []
    while len(robots) < ROBOTS:
        robots += await connect(port, CONNECTED_TOGETHER)
    orders.send("ready")
    done = 0
    while await asyncio.to_thread(orders.recv):
        begun = time.perf_counter()
        messages = [
            message_of(frames_batch((done + number) * FRAMES_PER_MESSAGE, FRAMES_PER_MESSAGE))
            for number in range(MESSAGES)
        ]
        await asyncio.gather(*(_send(robot, messages, done, begun, at) for at, robot in enumerate(robots)))
        done += MESSAGES
        await asyncio.gather(*(robot.acknowledged(done * FRAMES_PER_MESSAGE) for robot in robots))
        took_s = time.perf_counter() - begun
        delays_ms = [1000 * delay for robot in robots for delay in robot.delays_s]
        for robot in robots:
            robot.delays_s.clear()
        orders.send((delays_ms, len(robots) * MESSAGES * FRAMES_PER_MESSAGE / took_s))


async def _send(robot: LoadRobot, messages: list[bytes], done: int, begun: float, at: int) -> None:
    for number, message in enumerate(messages):
        due = begun + PERIOD_S * (number + at / ROBOTS)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        robot.send(message, (done + number + 1) * FRAMES_PER_MESSAGE)


def send_nonstop(port: int, orders: Connection) -> None:
    """Send while the last order is True; tells when it is ready, and in the end how many bytes it sent."""
    orders.send(uvloop.run(_send_nonstop(port, orders)))


async def _send_nonstop(port: int, orders: Connection) -> int:
    frame = {
        name: {f"joint_{joint}.pos": 1.2345678 * joint for joint in range(6)}
        for name in ("observation", "action")
    }
    text = json.dumps([frame] * (MAX_MESSAGE_BYTES // (len(json.dumps(frame)) + 2)))
    sent_bytes, loud = 0, False
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws/log/loud", max_size=None) as socket:
        reading = asyncio.create_task(_read(socket))
        orders.send("ready")
        while True:
            if orders.poll() or not loud:
                loud = await asyncio.to_thread(orders.recv)
                if loud is None:
                    reading.cancel()
                    return sent_bytes
                continue
            await socket.send(text)
            sent_bytes += len(text)


async def _read(socket: websockets.ClientConnection) -> None:
    async for _ in socket:
        pass
