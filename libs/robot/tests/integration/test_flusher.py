"""The flusher, on a real stream and on a disk that is slow or broken."""

import itertools
import threading
import time
from pathlib import Path

import pytest
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool import flusher
from lerobot_robot_backend.spool.flusher import Flusher
from teleop_testing.machine.power import watched_disk
from teleop_testing.robots.spooled import SMALL, batches, open_writer, states, write
from teleop_testing.waiting import PATIENCE_S, wait_for


@pytest.fixture
def writer(tmp_path: Path):
    """A recording in segments of the smallest size."""
    (tmp_path / "spool").mkdir()
    writer = open_writer(tmp_path / "spool", segment_bytes=SMALL)
    yield writer
    writer.close()


def test_what_is_logged_reaches_the_disk_by_itself(writer, tmp_path):
    """Nobody asks for it; each frame is there after a cut once the next sync is done."""
    rounds = itertools.count()

    def is_there(count: int) -> bool:
        """Whether so many frames are left in every world after a cut now."""
        for _, left in disk.cut(tmp_path / f"cut-{next(rounds)}"):
            reader = SpoolReader(left / writer.stream_dir.relative_to(tmp_path / "spool"))
            found = states(batches(reader))
            reader.close()
            if found != list(range(count)):
                return False
        return True

    with watched_disk(tmp_path / "spool") as disk:
        running = Flusher(writer.sync)
        running.start()
        for count in (1, 2):
            write(writer, 1)
            wait_for(lambda count=count: is_there(count))
        running.stop()


def test_nothing_is_synced_while_nothing_is_logged(writer):
    """A robot that rests leaves its disk in peace; only what is new counts as a sync."""
    assert writer.sync()
    assert not writer.sync()
    write(writer, 1)
    assert writer.sync()
    assert not writer.sync()


def test_slowest_sync_is_known(monkeypatch):
    """How long the disk takes is measured with each sync that had something to do."""
    clock = iter((0.0, 0.02, 1.0, 1.3, 2.0, 2.1))
    over = threading.Event()

    class Clock:
        @staticmethod
        def monotonic() -> float:
            # A writer that another test has left has a thread that looks at it, too.
            return next(clock) if threading.current_thread() is running._thread else time.monotonic()

    def sync() -> bool:
        calls.append(1)
        if len(calls) == 3:
            over.set()
            running._stop.set()
        return True

    calls: list[int] = []
    monkeypatch.setattr(flusher, "time", Clock)
    running = Flusher(sync)
    running.start()
    assert over.wait(PATIENCE_S)
    running.stop()
    assert running.slowest_s == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(5, "Input/output error"), "the disk of the spool returned an error: Input/output error"),
        (OSError("no details"), "the disk of the spool returned an error: no details"),
        (MemoryError(), "samples could not be synced to disk: MemoryError"),
        (ValueError("a defect"), "samples could not be synced to disk: ValueError: a defect"),
    ],
)
def test_error_of_a_sync_is_told_and_it_goes_on(error, told):
    """Whatever fails is named; later samples are synced all the same."""
    calls: list[int] = []

    def sync() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return False

    running = Flusher(sync)
    running.start()
    wait_for(lambda: len(calls) > 2)
    running.stop()
    assert running.trouble == told
