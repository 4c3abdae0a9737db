"""The thread that looks after a session, when its duties fail."""

import sys
import threading
from uuid import uuid4

import pytest
from lerobot_robot_backend import children, upkeep
from lerobot_robot_backend.spool.stream import StreamFile, read_whole_progress
from lerobot_robot_backend.spool.writer import SpoolWriter
from lerobot_robot_backend.upkeep import Upkeep
from lerobot_robot_backend.video import capture
from teleop_client.credentials import Tokens
from teleop_schema.session import Camera, SessionDescription
from teleop_testing.waiting import PATIENCE_S, until

SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=("b",), started_at_us=0)


class Video:
    """A recording of video whose encoder can't be started twice."""

    trouble = None

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
    running = Upkeep(writer, tmp_path, Tokens(), ship=False, video=video)
    try:
        assert video.went_on.wait(PATIENCE_S)
    finally:
        running.stop()
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]


@pytest.fixture
def impatient(monkeypatch):
    """Children are looked at and started again at once; at the end none of them is left."""
    monkeypatch.setattr(upkeep, "_PERIOD_S", 0.01)
    monkeypatch.setattr(upkeep, "_RESTART_S", 0.01)
    monkeypatch.setattr(capture, "_RESTART_S", 0.01)
    monkeypatch.setattr(children, "_children", [])
    yield
    for child in children._children:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("websockets", "sends samples"),
        ("teleop_client.uploading", "sends video"),
        ("av", "turns pictures into video"),
    ],
)
async def test_child_that_ends_at_once_is_told(
    make_client, impatient, monkeypatch, caplog, tmp_path, broken, what
):
    """A broken environment is named with the child's last words: on the terminal, in `progress`, and where
    `sync-agent status` looks."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{broken!r}] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = f"the process that {what} can't be started: ModuleNotFoundError: "
    with make_client(ship=True, cameras={"front": Camera(48, 64)}) as client:
        await until(lambda: told in (read_whole_progress(client.stream_dir).trouble or ""))
        assert broken in client.progress.trouble
    assert any(told in record.message for record in caplog.records)


async def test_child_that_can_not_be_started_is_told(make_client, impatient, monkeypatch):
    """The last line says that nothing sends the samples, and what does."""
    with monkeypatch.context() as moment:
        moment.setattr(sys, "executable", "/nowhere/python")
        with make_client(ship=True) as client:
            client.log({"shoulder.pos": 1.0, "elbow.pos": 2.0}, {})
            await until(lambda: "/nowhere/python" in (client.progress.trouble or ""))
    assert "the process that sends samples can't be started: " in client.progress.trouble
    command = f"python -m lerobot_robot_backend.shipper {client.stream_dir}"
    assert client.summary().endswith(f"\nnothing sends the rest now, unless you run {command}")
    assert "mistyped" not in client.summary()


async def test_child_that_works_again_is_no_trouble(make_client, backend, impatient, monkeypatch, caplog):
    """Once somebody has mended the environment, the session goes on as if nothing had been."""
    monkeypatch.setattr(children, "SHORT_LIFE_S", 0.01)
    with monkeypatch.context() as moment:
        moment.setattr(sys, "executable", "/nowhere/python")
        client = make_client(ship=True)
        await until(lambda: client.progress.trouble)
    with client:
        client.log({"shoulder.pos": 1.0, "elbow.pos": 2.0}, {})
        await until(lambda: client.acknowledged == 1 and client.progress.trouble is None)
        await until(lambda: any("recorded again" in each.message for each in caplog.records))
    assert "nothing sends" not in client.summary()
