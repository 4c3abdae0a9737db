"""The thread that looks after a session, when its duties fail."""

import threading
from uuid import uuid4

import pytest
from lerobot_robot_backend import upkeep
from lerobot_robot_backend.spool.stream import StreamFile
from lerobot_robot_backend.spool.writer import SpoolWriter
from lerobot_robot_backend.upkeep import Upkeep
from teleop_schema.session import SessionDescription
from teleop_testing.waiting import PATIENCE_S

SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=("b",), started_at_us=0)


class Video:
    """A recording of video whose encoder can't be started twice."""

    def __init__(self):
        self.errors = [OSError("no more processes"), ValueError("a defect")]
        self.went_on = threading.Event()

    def keep_encoding(self):
        if self.errors:
            raise self.errors.pop(0)
        self.went_on.set()


@pytest.fixture
def writer(tmp_path):
    """A recording."""
    file = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)
    writer = SpoolWriter(tmp_path, file)
    yield writer
    writer.close()


def test_it_goes_on_whatever_fails(writer, tmp_path, monkeypatch, caplog):
    """A duty that fails is done again, the others meanwhile; what nobody foresaw is logged."""
    monkeypatch.setattr(upkeep, "_PERIOD_S", 0.01)
    video = Video()
    running = Upkeep(writer, tmp_path, None, ship=False, video=video)
    try:
        assert video.went_on.wait(PATIENCE_S)
    finally:
        running.stop()
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]
