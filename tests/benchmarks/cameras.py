"""What recording two cameras costs the robot's 60 Hz loop: 640x480 at 30 pictures/s, with a sensor's noise.

One process runs the loop, in turns with and without the recording; the cameras' threads run in both. The
shipper and the encoder run as on a robot.
"""

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from figures import Figure, at_most
from lerobot_robot_backend import TelemetryClient
from lerobot_robot_backend.video.files import finished_segments
from lerobot_robot_virtual.arm import NAMES, VirtualArm, leader_positions
from lerobot_robot_virtual.scene import render
from loop import RATE_HZ, neighbour, nobody, quantile, sink, sleep_until
from teleop_schema.session import Camera

CAMERAS = ("front", "wrist")
CAMERA_HZ = 30
HEIGHT, WIDTH = 480, 640
PICTURES = 60
NOISE = 4
TURN_S = 5.0
TURNS = 4
START_S = 10.0
DRAIN_S = 60.0


class NoisyCamera:
    """Takes pictures in a thread of its own, as LeRobot's cameras do."""

    def __init__(self, view: str) -> None:
        noise = np.random.default_rng(0)
        self._pictures = []
        for number in range(PICTURES):
            clean = render(view, leader_positions(number / CAMERA_HZ), number, height=HEIGHT, width=WIDTH)
            noisy = clean + noise.integers(-NOISE, NOISE + 1, clean.shape, np.int16)
            self._pictures.append(noisy.clip(0, 255).astype(np.uint8))
        self.latest = self._pictures[0], time.monotonic_ns()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(1 / CAMERA_HZ):
            number += 1
            self.latest = self._pictures[number % PICTURES].copy(), time.monotonic_ns()

    def __enter__(self) -> "NoisyCamera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def run() -> list[Figure]:
    """Latency of log() with pictures, the loop's period with and without it, and what the encoder takes."""
    figures = []
    with (
        tempfile.TemporaryDirectory(dir=Path.home()) as folder,
        sink() as url,
        NoisyCamera("front") as front,
        NoisyCamera("wrist") as wrist,
    ):
        cameras = dict(zip(CAMERAS, (front, wrist), strict=True))
        for load, allowed_ms in (("idle", 0.2), ("loaded disk", 1.0)):
            with neighbour(Path(folder) / "neighbour") if load != "idle" else nobody():
                figures += _measure(url, Path(folder) / load.replace(" ", "-"), cameras, load, allowed_ms)
    return figures


def _measure(
    url: str, spool: Path, cameras: dict[str, NoisyCamera], load: str, allowed_ms: float
) -> list[Figure]:
    log_s: list[float] = []
    periods_s: dict[bool, list[float]] = {True: [], False: []}
    client = TelemetryClient(
        url,
        "benchmark",
        state_names=NAMES,
        action_names=NAMES,
        fps=RATE_HZ,
        cameras=dict.fromkeys(CAMERAS, Camera(HEIGHT, WIDTH, CAMERA_HZ)),
        spool_dir=spool,
    )
    client.wait_for_encoder(START_S)  # as the plugin does, before the robot moves
    recorded_s = 0.0
    with _cpu_time_of(client) as cpu_s:
        for turn in range(2 * TURNS):
            recording = turn % 2 == 0
            _turn(client if recording else None, cameras, log_s, periods_s[recording])
            recorded_s += TURN_S * recording
    client.close()
    counts = client.pictures(DRAIN_S).values()
    pictures = sum(count.recorded for count in counts)
    video_bytes = sum(segment.video.size_bytes for segment in finished_segments(client.stream_dir))
    with_ms, without_ms = (1e3 * quantile(periods_s[recording], 0.99) for recording in (True, False))
    return [
        Figure(f"log() with pictures p50, {load}", 1e6 * quantile(log_s, 0.5), "us"),
        Figure(f"log() with pictures p99, {load}", 1e6 * quantile(log_s, 0.99), "us"),
        Figure(f"period p99 without recording, {load}", without_ms, "ms"),
        Figure(f"period p99 with recording, {load}", with_ms, "ms"),
        at_most(f"period p99, what recording adds, {load}", with_ms - without_ms, "ms", allowed_ms),
        Figure(f"pictures recorded, {load}", pictures, "pictures"),
        at_most(f"pictures dropped, {load}", sum(count.dropped for count in counts), "pictures", 0),
        Figure(f"encoder, share of a core, {load}", 100 * cpu_s[0] / recorded_s, "%"),
        Figure(f"video, {load}", video_bytes / max(1, pictures) / 1e3, "kB/picture"),
    ]


def _turn(
    client: TelemetryClient | None,
    cameras: dict[str, NoisyCamera],
    log_s: list[float],
    periods_s: list[float],
) -> None:
    arm = VirtualArm()
    started = previous = time.perf_counter()
    while previous - started < TURN_S:
        latest = {name: camera.latest for name, camera in cameras.items()}
        observation = arm.positions | {name: picture for name, (picture, _) in latest.items()}
        action = leader_positions(previous - started)
        arm.command(action)
        if client is not None:
            before = time.perf_counter()
            picture_us = {name: client.clock.at_us(taken_ns) for name, (_, taken_ns) in latest.items()}
            client.log(observation, action, picture_us=picture_us)
            log_s.append(time.perf_counter() - before)
        sleep_until(previous + 1.0 / RATE_HZ)
        now = time.perf_counter()
        periods_s.append(now - previous)
        previous = now


@contextmanager
def _cpu_time_of(client: TelemetryClient) -> Iterator[list[float]]:
    """Afterwards, seconds of processor time that the session's encoder took."""
    encoder = next(
        child
        for child in psutil.Process().children()
        if {"lerobot_robot_backend.video.encoder", str(client.stream_dir)} <= {*child.cmdline()}
    )
    before = encoder.cpu_times()
    taken = [0.0]
    yield taken
    after = encoder.cpu_times()
    taken[0] = after.user + after.system - before.user - before.system
