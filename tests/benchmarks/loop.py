"""What logging costs the robot's 60 Hz loop, idle and beside a process that writes to the same disk.

One process runs the loop, in turns with and without logging; the shipper runs as on a robot, against a sink.
A step of the loop finds the processor's caches cold, as on a robot: so the turns without logging encode the
same sample as JSON, to show what any little work costs there.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import Figure, at_most
from lerobot_robot_backend import TelemetryClient
from lerobot_robot_virtual.arm import NAMES, VirtualArm, leader_positions
from teleop_schema.limits import Limits
from teleop_schema.messages import (
    SUBPROTOCOL,
    Ack,
    Ended,
    Hello,
    Welcome,
    decode_batch,
    decode_robot_control,
    encode_control,
)
from websockets.asyncio.server import ServerConnection, serve

RATE_HZ = 60
TURN_S = 3.0
TURNS = 6
WARM_CALLS = 20_000
# As LeRobot sleeps: the last milliseconds are waited for awake.
SPIN_S = 0.010

NEIGHBOUR = """
import os, sys
block = os.urandom(1 << 20)
while True:
    with open(sys.argv[1], "wb") as file:
        for _ in range(256):
            file.write(block)
        os.fsync(file.fileno())
"""


def run() -> list[Figure]:
    """Latency of log(), and the loop's period with and without it."""
    figures = []
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder, sink() as url:
        for load, allowed_ms in (("idle", 0.2), ("loaded disk", 1.0)):
            with neighbour(Path(folder) / "neighbour") if load != "idle" else nobody():
                log_s, json_s, logging_s, plain_s = _measure(url, Path(folder) / load.replace(" ", "-"))
            logging_ms, plain_ms = (1e3 * quantile(periods, 0.99) for periods in (logging_s, plain_s))
            figures += [
                at_most(f"log() p50, {load}", 1e6 * quantile(log_s, 0.5), "us", 20),
                at_most(f"log() p99, {load}", 1e6 * quantile(log_s, 0.99), "us", 100),
                Figure(f"json.dumps() of the same sample p50, {load}", 1e6 * quantile(json_s, 0.5), "us"),
                Figure(f"json.dumps() of the same sample p99, {load}", 1e6 * quantile(json_s, 0.99), "us"),
                Figure(f"period p99 without logging, {load}", plain_ms, "ms"),
                Figure(f"period p99 with logging, {load}", logging_ms, "ms"),
                at_most(f"period p99, what logging adds, {load}", logging_ms - plain_ms, "ms", allowed_ms),
            ]
        warm_s = _back_to_back(url, Path(folder) / "warm")
    return [
        *figures,
        Figure("log() p50, called back to back, caches warm", 1e6 * quantile(warm_s, 0.5), "us"),
        Figure("log() p99, called back to back, caches warm", 1e6 * quantile(warm_s, 0.99), "us"),
    ]


def _back_to_back(url: str, spool: Path) -> list[float]:
    """Seconds of each log() when nothing else is done between them."""
    arm = VirtualArm()
    observation, action = arm.positions, leader_positions(1.0)
    work_s = []
    settings = {"state_names": NAMES, "action_names": NAMES, "fps": RATE_HZ, "spool_dir": spool}
    with TelemetryClient(url, "benchmark", **settings) as client:
        for _ in range(WARM_CALLS):
            before = time.perf_counter()
            client.log(observation, action)
            work_s.append(time.perf_counter() - before)
    client.drain(60.0)
    return work_s


def _measure(url: str, spool: Path) -> tuple[list[float], list[float], list[float], list[float]]:
    """Seconds of each log(), of each json.dumps(), of each period with logging, of each period without."""
    work_s: dict[bool, list[float]] = {True: [], False: []}
    periods_s: dict[bool, list[float]] = {True: [], False: []}
    settings = {"state_names": NAMES, "action_names": NAMES, "fps": RATE_HZ, "spool_dir": spool}
    with TelemetryClient(url, "benchmark", **settings) as client:
        for turn in range(2 * TURNS):
            logging = turn % 2 == 0
            _turn(client if logging else None, work_s[logging], periods_s[logging])
    client.drain(60.0)
    return work_s[True], work_s[False], periods_s[True], periods_s[False]


def _turn(client: TelemetryClient | None, work_s: list[float], periods_s: list[float]) -> None:
    arm = VirtualArm()
    started = previous = time.perf_counter()
    while previous - started < TURN_S:
        observation, action = arm.positions, leader_positions(previous - started)
        sent = arm.command(action)
        before = time.perf_counter()
        if client is not None:
            client.log(observation, action, sent_action=sent)
        else:
            json.dumps({"observation": observation, "action": action})
        work_s.append(time.perf_counter() - before)
        sleep_until(previous + 1.0 / RATE_HZ)
        now = time.perf_counter()
        periods_s.append(now - previous)
        previous = now


def sleep_until(moment: float) -> None:
    remaining = moment - time.perf_counter()
    if remaining > SPIN_S:
        time.sleep(remaining - SPIN_S)
    while time.perf_counter() < moment:
        pass


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


@contextmanager
def neighbour(path: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(path)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def nobody() -> Iterator[None]:
    yield


@contextmanager
def sink() -> Iterator[str]:
    """A server that acknowledges everything and keeps nothing."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


async def _swallow(connection: ServerConnection) -> None:
    async for message in connection:
        if isinstance(message, bytes):
            await connection.send(encode_control(Ack(decode_batch(message, Limits()).end)))
        elif isinstance(control := decode_robot_control(message), Hello):
            await connection.send(encode_control(Welcome(1, 1, control.first_unacked, Limits())))
        else:
            await connection.send(encode_control(Ended(control.frames)))


async def _serve() -> None:
    async with serve(_swallow, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
