"""A handful of power cuts, and a disk that gets full, on disks of their own; `make chaos` cuts often."""

import os
import random
from pathlib import Path

import pytest
import robot_power
import server_power
from cut_disk import CutDisk, cut_disk
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.stream import SpoolError
from teleop_testing.robots.spooled import batches, covered
from teleop_testing.waiting import wait_for

SAMPLE = {"a": 1.0}
LARGE = {"note": "x" * 60_000}


@pytest.mark.parametrize("state", robot_power.STATES)
def test_robot_keeps_what_was_synced(state):
    """In each state of the spool, every frame that a sync has returned for is there after a cut."""
    with cut_disk() as disk:
        losses_s, _ = robot_power.CUTS[state](disk, 1, random.Random(state))
    assert len(losses_s) == 1


def test_runner_catches_a_spool_that_does_not_sync(monkeypatch):
    """A recording that only says that it has synced is found out, or the cuts above prove nothing."""
    monkeypatch.setenv("SABOTAGE", "no_sync")
    with cut_disk() as disk, pytest.raises(AssertionError, match="were synced"):
        robot_power.cut_steady(disk, 20, random.Random(1))


def test_server_keeps_what_it_acknowledged():
    """What was acknowledged, what has a receipt and what was told of uploads is there after a power cut."""
    server_power.run(2, seed=1)


def test_full_disk_is_one_gap_that_ends():
    """On a disk that is really full frames are lost as one gap, and kept again once there is room."""
    with (
        cut_disk() as disk,
        TelemetryClient(
            "ws://127.0.0.1:9", "robot_A", state_names=("a",), action_names=("a",), fps=60,
            spool_dir=disk.path / "spool", ship=False, min_free_bytes=0,
        ) as client,
    ):  # fmt: skip
        filler = fill(disk)
        while is_kept(client):
            pass
        lost = client.logged - 1
        wait_for(lambda: "frames are being lost" in (client.progress.trouble or ""))
        filler.unlink()
        wait_for(lambda: is_kept(client))
        client.close()
        reader = SpoolReader(client.stream_dir)
        found = batches(reader)
        reader.close()
        assert covered(found) == list(range(client.logged))
        assert [(batch.first, batch.end) for batch in found if batch.gap] == [(lost, client.logged - 1)]


def fill(disk: CutDisk) -> Path:
    """A file that takes all the room there is."""
    path = disk.path / "filler"
    with path.open("wb") as file:
        size = 0
        for step in (64 * 1024**2, 1024**2, 4096):
            while True:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                except OSError:
                    break
                size += step
    return path


def is_kept(client: TelemetryClient) -> bool:
    try:
        client.log(SAMPLE, SAMPLE, extra=LARGE)
    except SpoolError:
        return False
    return True
