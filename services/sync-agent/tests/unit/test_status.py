"""What `status` says of the disk that samples are kept on."""

import io

import msgspec
import pytest
from lerobot_robot_backend.spool.stream import WriterState, WriterStateFile, note_video_trouble
from msgspec.structs import replace
from rich.console import Console
from teleop_schema.files import Quota
from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.status import (
    HEARTBEAT_S,
    NOW_NOTE,
    Now,
    describe_note,
    describe_quota,
    headline,
    is_due,
    notes,
    read_status,
    table,
)
from teleop_testing.robots.spooled import open_writer
from teleop_testing.waiting import PATIENCE_S


async def test_trouble_of_a_recording_and_its_slow_disk(make_agent, tmp_path):
    """A session that is being recorded is not the agent's to ship, but what it suffers from is told."""
    agent = make_agent()
    writer = open_writer(tmp_path / "spool")
    told = WriterStateFile(writer.stream_dir)
    told.write(WriterState(trouble="the disk of the spool is full, frames are lost", slowest_sync_ms=250.0))
    try:
        await agent.once(PATIENCE_S)
        line = headline(read_status("robot_A", agent.state))
    finally:
        told.close()
        writer.close()
    assert line.endswith(": the disk of the spool is full, frames are lost")
    assert "slowest sync of samples 250 ms (a power loss may lose as much of what was logged)" in line


async def test_what_a_recording_waits_with_is_told(make_agent, tmp_path):
    """How much of it is only on this PC, and why: of video too, which has a shipper of its own."""
    agent = make_agent()
    writer = open_writer(tmp_path / "spool")
    told = WriterStateFile(writer.stream_dir)
    told.write(WriterState(logged=1200))
    note_video_trouble(writer.stream_dir, "no_space: the server's disk is full")
    segment = writer.stream_dir / "video/front/000000.mp4"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(bytes(2_500_000))
    segment.with_suffix(".json").touch()
    try:
        await agent.once(PATIENCE_S)
        status = read_status("robot_A", agent.state)
    finally:
        told.close()
        writer.close()
    assert "trouble: no_space: the server's disk is full" in headline(status)
    assert headline(status).endswith("only on this PC so far: 1200 frames, 1 segment of video (2.5 MB)")
    assert (status.agent.waiting_frames, status.agent.waiting_segments) == (1200, 1)


async def test_quick_disk_is_no_warning(make_agent, tmp_path):
    """The figure alone; and what a dead writer suffered from is over."""
    agent = make_agent()
    writer = open_writer(tmp_path / "spool")
    told = WriterStateFile(writer.stream_dir)
    told.write(WriterState(slowest_sync_ms=12.4))
    try:
        await agent.once(PATIENCE_S)
        line = headline(read_status("robot_A", agent.state))
    finally:
        told.close()
        writer.close()
    assert line.endswith("slowest sync of samples 12 ms")


def test_a_quota_that_is_nearly_used_is_told(tmp_path):
    """Before anything is refused, and what then happens."""
    state = AgentState(tmp_path / "state.sqlite")
    quota = describe_quota(Quota(92_100_000_000, 100_000_000_000))
    now = Now(at=0.0, pid=1, server="http://host", paused=False, quota=quota)
    state.set_note(NOW_NOTE, msgspec.json.encode(now))
    line = headline(read_status("robot_A", state, now_s=0.0))
    told = "storage on the server: 92.1 GB of 100.0 GB used; beyond that, video and datasets wait on this PC"
    assert line.endswith(told)


def test_a_note_does_not_widen_the_table(tmp_path):
    """The table fits a page where a note is a long sentence: that is a line below, in one piece."""
    row = DatasetRow(
        folder=str(tmp_path), root=str(tmp_path), name="pick", error="it is refused: " + 30 * "why "
    )
    console = Console(width=100_000, file=io.StringIO())
    console.print(table([row]))
    assert max(map(len, console.file.getvalue().splitlines())) < 100
    assert list(notes([row])) == [f"pick: {row.error}"]


def test_repaired_dataset_needs_no_repair(tmp_path):
    """Whoever did what was advised is told where the result is, and not to do it again."""
    torn = tmp_path / "outputs/pick"
    row = DatasetRow(folder=str(torn), root=str(torn.parent), name="pick", verdict="dead")
    assert describe_note(row) == f"its recorder died: sync-agent repair {torn}"
    (tmp_path / "outputs/pick-repaired").mkdir(parents=True)
    assert describe_note(row) == f"its recorder died: {torn}-repaired is its repair"


@pytest.mark.parametrize("days", [-3, 3])
def test_a_clock_that_is_set(tmp_path, days):
    """The agent reports at once by the new clock; one that was killed before does not look alive for days."""
    told = Now(at=1.8e9, pid=1, server="http://backend:8000", paused=False)
    state = AgentState(tmp_path / "robot_A.sqlite")
    state.set_note(NOW_NOTE, msgspec.json.encode(told))
    set_to_s = told.at + days * 24 * 3600
    assert read_status("robot_A", state, now_s=told.at + HEARTBEAT_S).running
    assert not read_status("robot_A", state, now_s=set_to_s).running
    assert is_due(replace(told, at=set_to_s), told)
    assert not is_due(replace(told, at=told.at + 1.0), told)
    state.close()
