"""A thousand robots at 60 Hz on one machine, load generator included."""

import asyncio
import os
import time

import numpy as np
import psutil
import uvloop
from figures import Figure, at_most
from lerobot_robot_backend.shipping.sender import LINGER_S
from load import LoadRobot, connect, frames_batch, message_of
from teleop_testing.backends.processes import own_postgres, telemetry_process

ROBOTS = int(os.environ.get("FLEET_ROBOTS", "1000"))
SECONDS = 30
# What the shipper sends: it gathers for a sixth of a second.
FRAMES_PER_MESSAGE = round(60 * LINGER_S)
PERIOD_S = FRAMES_PER_MESSAGE / 60
MESSAGES = round(SECONDS / PERIOD_S)


def run() -> list[Figure]:
    with own_postgres() as postgres, telemetry_process(postgres.url()) as service:
        process = psutil.Process(service.pid)
        robots, late_s, cpu = uvloop.run(measure(service.port, process))
        memory = process.memory_info().rss / 2**20
    delays_ms = 1000 * np.concatenate([robot.delays_s for robot in robots])
    frames = MESSAGES * FRAMES_PER_MESSAGE
    unacked = sum(frames - robot.acked for robot in robots)
    p50, p99 = np.percentile(delays_ms, [50, 99])
    return [
        Figure(f"frames sent by {len(robots)} robots", frames * len(robots), "frames"),
        at_most("frames not acknowledged", unacked, "frames", 0),
        Figure("send to durable, p50", p50, "ms"),
        at_most("send to durable, p99", p99, "ms", 250),
        Figure(
            f"oldest sample to durable, p99 (a message holds {1000 * PERIOD_S:.0f} ms)",
            p99 + 1000 * PERIOD_S,
            "ms",
        ),
        Figure("load generator late, worst", 1000 * late_s, "ms"),
        Figure("CPU of the service", cpu, "cores"),
        Figure("memory of the service", memory, "MiB"),
    ]


async def measure(port: int, process: psutil.Process) -> tuple[list[LoadRobot], float, float]:
    """Robots that have sent everything, how late the generator ran at worst, CPU of the service in cores."""
    robots = await connect(port, ROBOTS)
    messages = [
        message_of(frames_batch(number * FRAMES_PER_MESSAGE, FRAMES_PER_MESSAGE))
        for number in range(MESSAGES)
    ]
    begun = time.perf_counter()
    used = sum(process.cpu_times()[:2])
    late_s = 0.0
    # Robots are spread over the period, as robots that know nothing of each other are.
    slice_size = max(1, len(robots) // 50)
    slices = [robots[at : at + slice_size] for at in range(0, len(robots), slice_size)]
    for number, message in enumerate(messages):
        for position, some in enumerate(slices):
            due = begun + PERIOD_S * (number + position / len(slices))
            wait = due - time.perf_counter()
            late_s = max(late_s, -wait)
            await asyncio.sleep(max(wait, 0))
            for robot in some:
                robot.send(message, (number + 1) * FRAMES_PER_MESSAGE)
    async with asyncio.timeout(30):
        await asyncio.gather(*(robot.acknowledged(MESSAGES * FRAMES_PER_MESSAGE) for robot in robots))
    cpu = (sum(process.cpu_times()[:2]) - used) / (time.perf_counter() - begun)
    return robots, late_s, cpu
