"""What it costs to check and to export video in confined processes, beside the same without confinement."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from figures import Figure, at_most
from teleop_dataset.v3.image_stats import PictureLevels
from teleop_dataset.v3.info import VideoFeature
from teleop_export.making import media_process
from teleop_export.making.media_process import MediaProcess
from teleop_runtime.confined.handed import send
from teleop_runtime.confined.sandbox import NICE
from teleop_runtime.confined.start import channel, command_of, worker_environment
from teleop_testing.datasets.files import encode_video
from teleop_video_ingest.model.worker_messages import Probed, Question

# One with and one without in turn, so that whatever else the machine does meets both.
ROUNDS = 10
PROBES = 20
HEIGHT, WIDTH, PICTURES = 480, 640, 100
MOST = 1.05
# The same program at the same priority, which does all but confine itself.
WITHOUT = (sys.executable, "-P", "-c")
PROGRAM = """
import os
from {module} import {name} as worker
worker.confine = lambda *bounds: os.nice({nice}) and []
worker.main()
"""
PROBE = ("teleop_video_ingest.files", "probe_worker")
MEDIA = ("teleop_export.making", "media_worker")


def run() -> list[Figure]:
    figures = [Figure("load of the machine before (1 minute)", os.getloadavg()[0], "processes")]
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "video.mp4")
        video.write_bytes(encode_video(PICTURES, height=HEIGHT, width=WIDTH))
        for name, work, worker, times in (
            ("a check of a chunk of 100 pictures", probe, PROBE, PROBES),
            ("decoding and encoding them", media, MEDIA, 1),
        ):
            figures += compare(name, work, worker, video, times)
    return figures


def compare(
    name: str,
    work: Callable[[tuple[str, ...], Path], tuple[float, float]],
    worker: tuple[str, str],
    video: Path,
    times: int,
) -> list[Figure]:
    """The figures of one kind of work: how long it takes confined, and how that compares."""
    plain = (*WITHOUT, PROGRAM.format(module=worker[0], name=worker[1], nice=NICE))
    confined = command_of(".".join(worker))
    pairs = [
        (work(confined, video), work(plain, video))
        if number % 2
        else (work(plain, video), work(confined, video))[::-1]
        for number in range(ROUNDS)
    ]
    wall, processor = (
        statistics.median(ours[kind] / other[kind] for ours, other in pairs) for kind in (0, 1)
    )
    return [
        Figure(f"{name}, confined", 1000 * statistics.median(ours[0] for ours, _ in pairs) / times, "ms"),
        # Without an aim, because it depends on what else the machine does meanwhile.
        Figure(f"{name}: time, confined / not", wall, "x"),
        at_most(f"{name}: processor time, confined / not", processor, "x", MOST),
    ]


def probe(command: tuple[str, ...], video: Path) -> tuple[float, float]:
    """Seconds, and seconds of a processor, that a process takes for PROBES checks once it has begun."""
    ours, theirs = channel()
    with (
        theirs,
        subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=subprocess.PIPE, env=worker_environment()
        ) as process,
        ours,
    ):
        theirs.close()
        assert process.stdout is not None
        process.stdout.readline()
        begun, spent = time.perf_counter(), processor_s(process.pid)
        with video.open("rb") as file:
            for _ in range(PROBES):
                send(ours, msgspec.json.encode(Question(PICTURES, 45)), [file.fileno()])
                assert msgspec.json.decode(process.stdout.readline(), type=Probed).problem is None
        took = time.perf_counter() - begun, processor_s(process.pid) - spent
        ours.shutdown(socket.SHUT_RDWR)
    return took


def media(command: tuple[str, ...], video: Path) -> tuple[float, float]:
    """The same for opening a video, looking at all of its pictures, and encoding them."""
    media_process.WORKER = command
    camera = VideoFeature("front", HEIGHT, WIDTH, "h264", "yuv420p")
    process = MediaProcess()
    try:
        process.hello(camera)
        begun, spent = time.perf_counter(), processor_s(process.pid)
        pictures = process.open(video)
        numbers = np.arange(PICTURES)
        pictures.look(numbers, PictureLevels(camera))
        with tempfile.TemporaryDirectory() as folder:
            process.encode(Path(folder, "made.mp4"), 30, iter([(pictures, numbers)]))
        return time.perf_counter() - begun, processor_s(process.pid) - spent
    finally:
        process.end()


def processor_s(pid: int) -> float:
    """What a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
