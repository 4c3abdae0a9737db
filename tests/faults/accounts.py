"""What the database must hold once all is quiet."""

import time
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from lerobot_robot_backend.video_finish import recover
from lerobot_robot_backend.video_shipper import is_recorded
from lerobot_robot_backend.video_spool import finished_segments
from teleop_testing.database import Database
from teleop_testing.files import sha256_of
from teleop_testing.teleoperation import Teleoperation
from teleop_testing.waiting import wait_for

PATIENCE_S = 120.0


def wait_for_ledgers(address: str, sessions: int, timeout_s: float) -> dict[str, dict[str, Any]]:
    """Stream -> ledger, once that many sessions have ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = httpx.get(f"http://{address}/sessions", params={"limit": 1000}).json()["sessions"]
        if len(found) == sessions and all(session["status"] != "recording" for session in found):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    ledgers = {}
    for session in found:
        stream = httpx.get(f"http://{address}/sessions/{session['id']}").json()["stream_id"]
        ledgers[stream] = httpx.get(f"http://{address}/sessions/{session['id']}/ledger").json()
    return ledgers


async def check(database_url: str, ledger: dict[str, Any], robot: Teleoperation, *, status: str) -> None:
    """All that the robot logged is there; after a kill there may be one frame that it had no time to note."""
    assert ledger["status"] == status
    # Where no server takes files, their pictures are on the robot still.
    assert ledger["complete"] or ledger["cameras"], ledger
    assert (ledger["missing"], ledger["unaccounted"], ledger["duplicates"]) == (0, 0, 0)
    logged = robot.logged()
    assert 0 <= ledger["committed"] - len(logged) <= (status == "interrupted")
    async with Database.connect(database_url) as database:
        rows = await database.fetch(
            "SELECT frame_index, state, action FROM teleop_frame WHERE session_id = $1 ORDER BY frame_index",
            ledger["session_id"],
        )
    assert [row["frame_index"] for row in rows] == list(range(ledger["committed"]))
    stored = np.array([row["state"] + row["action"] for row in rows], np.float32)
    np.testing.assert_array_equal(stored[: len(logged)], logged)


def check_video(stream_dir: Path, frames: int, *, status: str) -> int:
    """Each picture is in one segment, which plays, or named as missing; returns how many are in segments.

    frames  that were logged; a recording that was killed together with its encoder may lack the last ones
    """
    wait_for(lambda: not is_recorded(stream_dir), patience_s=PATIENCE_S)
    recover(stream_dir)
    seen: list[int] = []
    missing: set[int] = set()
    for segment in finished_segments(stream_dir):
        assert segment.video.frames is not None
        assert sha256_of(segment.path.read_bytes()) == segment.video.sha256
        with av.open(segment.path) as file:
            decoded = sum(1 for _ in file.decode(video=0))
        assert decoded == len(segment.video.frames.frame_index)
        seen += segment.video.frames.frame_index
        missing.update(*(range(dropped.first, dropped.end) for dropped in segment.video.dropped))
    assert seen == sorted(set(seen)), "a picture is there twice"
    assert all(index % 2 == 0 for index in seen)
    if status == "complete":
        assert missing.union(seen) >= set(range(0, frames, 2)), f"pictures of {stream_dir} are nowhere"
    return len(seen)
