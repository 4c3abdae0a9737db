"""Power cuts of the robot PC, in each state of its spool: `python tests/faults/robot_power.py --cuts 60`.

Whatever a sync has returned for is there after each cut, in order and whole. How much was lost is told.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cut_disk import CutDisk, cut_disk
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.segment import find_segments
from lerobot_robot_backend.spool.stream import read_writer_state
from noted_robot import Notes
from teleop_schema.limits import Limits
from teleop_testing.robots.children import SHIPPER, end_children, signal_child
from teleop_testing.waiting import wait_for

STATES = ("steady", "segment changed", "session started", "shipper killed")
# Frames are logged each 1/60 s; a cut comes somewhere in the time that a sync would have had twice.
SOON_S = 0.1
# How long a killed shipper stays away.
SHIPPER_AWAY_S = 5.0


class Robot:
    """A recording on `disk`, and what it noted."""

    def __init__(self, disk: CutDisk, notes: Path, *, small: bool = False) -> None:
        script = Path(__file__).with_name("noted_robot.py")
        options = ["--small"] if small else []
        self._process = subprocess.Popen(
            [sys.executable, str(script), *options, str(disk.path / "spool"), str(notes)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.stream_dir = Path(self._process.stdout.readline().strip())
        self.notes = Notes(notes)
        self._disk = disk

    def end(self) -> None:
        """Kill it, and its shippers, which would try for ever."""
        self._process.kill()
        self._process.communicate()
        end_children(self.stream_dir)

    def cut(self) -> float:
        """Cut the power; how many seconds of what was logged are lost. AssertionError if it is too much."""
        logged, synced = self.notes.logged, self.notes.synced
        with self._disk.cut() as (left, moment_s):
            there = frames_left(left / self.stream_dir.relative_to(self._disk.path))
        assert there >= synced, f"{synced} frames were synced, {there} are there, {logged} were logged"
        if there >= logged:
            return 0.0
        return moment_s - self.notes.logged_at_s(there)


def frames_left(stream_dir: Path) -> int:
    """How many frames a stream has, checked: each with its own value, none missing before the last."""
    reader = SpoolReader(stream_dir)
    values: list[float] = []
    try:
        while (batch := reader.read(Limits())) is not None:
            if batch.gap:
                # Records that the cut tore: only behind all that was synced, and named.
                values += range(batch.first, batch.end)
            else:
                values += np.frombuffer(batch.state, "<f4").tolist()
    finally:
        reader.close()
    assert values == list(range(len(values)))
    assert reader.end is not None
    return reader.end.frames


@contextmanager
def recording(disk: CutDisk, *, small: bool = False) -> Iterator[Robot]:
    """A robot that has logged its first frames."""
    with tempfile.TemporaryDirectory() as folder:
        robot = Robot(disk, Path(folder) / "notes", small=small)
        try:
            wait_for(lambda: robot.notes.logged)
            yield robot
        finally:
            robot.end()


def cut_steady(disk: CutDisk, cuts: int, chance: random.Random) -> tuple[list[float], float]:
    """Losses in seconds, and the slowest sync in ms, of a recording that goes on."""
    with recording(disk) as robot:
        losses = []
        for _ in range(cuts):
            time.sleep(chance.uniform(0, SOON_S))
            losses.append(robot.cut())
        return losses, slowest_ms(robot)


def cut_at_changes(disk: CutDisk, cuts: int, chance: random.Random) -> tuple[list[float], float]:
    """The same right after the recording went over to another segment."""
    with recording(disk, small=True) as robot:
        losses = []
        for _ in range(cuts):
            before = max(find_segments(robot.stream_dir))
            wait_for(lambda before=before: max(find_segments(robot.stream_dir)) > before)
            time.sleep(chance.uniform(0, SOON_S))
            losses.append(robot.cut())
        return losses, slowest_ms(robot)


def cut_at_starts(disk: CutDisk, cuts: int, chance: random.Random) -> tuple[list[float], float]:
    """The same in the first second of recordings, before their shippers are up."""
    losses, slowest = [], 0.0
    for _ in range(cuts):
        with recording(disk) as robot:
            time.sleep(chance.uniform(0, 10 * SOON_S))
            losses.append(robot.cut())
            slowest = max(slowest, slowest_ms(robot))
    return losses, slowest


def cut_without_shipper(disk: CutDisk, cuts: int, chance: random.Random) -> tuple[list[float], float]:
    """The same while the shipper is killed and not started again yet; one kill serves several cuts."""
    losses: list[float] = []
    slowest = 0.0
    while len(losses) < cuts:
        with recording(disk) as robot:
            wait_for(lambda robot=robot: signal_child(robot.stream_dir, SHIPPER, signal.SIGKILL))
            away_until_s = time.monotonic() + SHIPPER_AWAY_S
            while len(losses) < cuts and time.monotonic() < away_until_s:
                time.sleep(chance.uniform(0, SOON_S))
                losses.append(robot.cut())
            slowest = max(slowest, slowest_ms(robot))
    return losses, slowest


def slowest_ms(robot: Robot) -> float:
    """What the recording itself tells of its disk."""
    return read_writer_state(robot.stream_dir).slowest_sync_ms


CUTS = dict(zip(STATES, (cut_steady, cut_at_changes, cut_at_starts, cut_without_shipper), strict=True))


def run(cuts: int, seed: int) -> None:
    """Cut so often, in all states; prints what was lost. Raises AssertionError if a synced frame was."""
    chance = random.Random(seed)
    with cut_disk() as disk:
        for state, cut in CUTS.items():
            losses, slowest = cut(disk, -(-cuts // len(CUTS)), chance)
            print(
                f"{state:16s} {len(losses):3d} cuts, lost {1e3 * np.median(losses):4.0f} ms in the median, "
                f"{1e3 * max(losses):4.0f} ms at most; slowest sync {slowest:.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed={arguments.seed}")
    run(arguments.cuts, arguments.seed)
