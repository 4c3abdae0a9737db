"""Streams in a spool, written and read frame by frame."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.age import NOTE, Noted, running_s
from lerobot_robot_backend.spool.record import MAX_RECORD_BYTES
from lerobot_robot_backend.spool.stream import SESSION_FILE, StreamFile, read_stream
from lerobot_robot_backend.spool.writer import SpoolWriter
from teleop_schema.limits import Limits
from teleop_schema.messages import Batch
from teleop_schema.session import SessionDescription

from teleop_testing.waiting import PATIENCE_S

RATE_HZ = 60
SMALL = 2 * MAX_RECORD_BYTES
# The joints of a session that a test's `make_client` opens.
JOINTS = ("shoulder.pos", "elbow.pos")
RECORD_BYTES = 40  # one state, one action
SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=("b",), started_at_us=0)


def open_writer(spool: Path, **options: Any) -> SpoolWriter:
    """A new stream of one state and one action value."""
    file = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)
    return SpoolWriter(spool, file, **options)


@contextmanager
def writing(spool: Path, **options: Any) -> Iterator[SpoolWriter]:
    """A writer that is closed in order."""
    writer = open_writer(spool, **options)
    try:
        yield writer
    finally:
        writer.close()


def pass_time(spool: Path, seconds: float) -> None:
    """Let everything in the spool be so much older."""
    running_s(spool)
    noted = msgspec.json.decode((spool / NOTE).read_bytes(), type=Noted)
    noted.total_s += seconds
    (spool / NOTE).write_bytes(msgspec.json.encode(noted))


def write(writer: SpoolWriter, count: int) -> None:
    """Frames that carry their index as state."""
    for _ in range(count):
        index = writer.next_index
        writer.append_frame(1000 * index, (float(index % 2**24), -1.0))


def batches(reader: SpoolReader, limits: Limits | None = None) -> list[Batch]:
    """Everything that can be read now; a place that looks damaged is looked at twice."""
    found = []
    for _ in range(2):
        while (batch := reader.read(limits or Limits())) is not None:
            found.append(batch)
    return found


def states(found: list[Batch]) -> list[float]:
    """The state of every frame, which is its index."""
    return [value for batch in found for value in np.frombuffer(batch.state, "<f4").tolist()]


def covered(found: list[Batch]) -> list[int]:
    """Frame indexes that the batches speak of, in their order."""
    return [index for batch in found for index in range(batch.first, batch.end)]


def log_frames(client: TelemetryClient, count: int) -> None:
    """Frames that carry their index as each joint's state, and its negative as the action."""
    for _ in range(count):
        index = float(client.logged)
        client.log(dict.fromkeys(JOINTS, index), dict.fromkeys(JOINTS, -index))


@contextmanager
def recording_beside(url: str, robot_id: str, spool: Path) -> Iterator[TelemetryClient]:
    """A robot that records at RATE_HZ for the block; after it, all of its frames are acknowledged."""
    over = threading.Event()
    client = TelemetryClient(
        url,
        robot_id,
        state_names=JOINTS,
        action_names=JOINTS,
        fps=RATE_HZ,
        spool_dir=spool,
        min_free_bytes=0,
    )

    def record() -> None:
        while not over.wait(1 / RATE_HZ):
            log_frames(client, 1)

    recording = threading.Thread(target=record)
    with client:
        recording.start()
        try:
            yield client
        finally:
            over.set()
            recording.join()
    assert client.drain(timeout_s=PATIENCE_S) == client.logged > 0


def expected_rows(count: int) -> list[list[float]]:
    """State and action of the first `count` frames that `log_frames` logs."""
    return [[float(index)] * 2 + [-float(index)] * 2 for index in range(count)]


def record(make_client: Callable[[], TelemetryClient], count: int) -> TelemetryClient:
    """A finished recording of so many frames."""
    with make_client() as client:
        log_frames(client, count)
    return client


def kill_writer(writer: SpoolWriter) -> None:
    """What is left of a writer whose process was killed."""
    writer._writer_lock.release()


def redirect(stream_dir: Path, backend_url: str) -> None:
    """As if the stream had been recorded for that server."""
    stream = msgspec.structs.replace(read_stream(stream_dir), backend_url=backend_url)
    (stream_dir / SESSION_FILE).write_bytes(msgspec.json.encode(stream))
