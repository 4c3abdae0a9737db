"""What the database, and the store, must hold of robots' sessions once all is quiet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import httpx
import msgspec
import numpy as np
from file_accounts import Stored
from lerobot_robot_backend.shipping.recovery import recover
from lerobot_robot_backend.video.files import STORED_SUFFIX, has_unstored_video
from lerobot_robot_backend.video_shipper import is_recorded
from teleop_schema.files import VideoFile
from teleop_testing.backends.database import Database
from teleop_testing.datasets.files import sha256_of
from teleop_testing.robots.teleoperation import PICTURE_EVERY, Teleoperation
from teleop_testing.waiting import PATIENCE_S, wait_for

# By how much a grey picture's mean may be another after it was encoded.
SHADE_TOLERANCE = 3

CHUNKS = """
SELECT camera_key, chunk_index, video_chunk.sha256, quarantine
  FROM video_chunk JOIN teleop_session ON teleop_session.id = session_id WHERE stream_id::text = $1
"""


def wait_for_ledgers(address: str, streams: Sequence[str], timeout_s: float) -> dict[str, dict[str, Any]]:
    """Stream -> ledger, once the sessions of all these streams have ended."""
    ended: dict[str, int] = {}

    def all_ended() -> bool:
        listed = httpx.get(f"http://{address}/sessions", params={"limit": 1000}, timeout=PATIENCE_S).json()[
            "sessions"
        ]
        for session in listed:
            if session["status"] != "recording" and session["id"] not in ended.values():
                detail = httpx.get(f"http://{address}/sessions/{session['id']}", timeout=PATIENCE_S).json()
                ended[detail["stream_id"]] = session["id"]
        return set(streams) <= ended.keys()

    wait_for(all_ended, patience_s=timeout_s)
    return {
        stream: httpx.get(f"http://{address}/sessions/{ended[stream]}/ledger", timeout=PATIENCE_S).json()
        for stream in streams
    }


async def check(
    database_url: str, ledger: dict[str, Any], robot: Teleoperation, *, status: str, filed: bool = False
) -> None:
    """All that the robot logged is there; after a kill there may be one frame that it had no time to note.

    filed  the server takes files, too, and has all of the robot's
    """
    assert ledger["status"] == status
    # Where no server takes files, their pictures are on the robot still.
    assert ledger["complete"] or (ledger["cameras"] and not (filed and status == "complete")), ledger
    assert (ledger["missing"], ledger["unaccounted"], ledger["duplicates"]) == (0, 0, 0)
    logged = robot.logged()
    more = ledger["committed"] - len(logged)
    assert 0 <= more <= (status == "interrupted"), f"{more} frames more than it noted: {ledger}"
    async with Database.connect(database_url) as database:
        rows = await database.fetch(
            "SELECT frame_index, state, action FROM teleop_frame WHERE session_id = $1 ORDER BY frame_index",
            ledger["session_id"],
        )
    assert [row["frame_index"] for row in rows] == list(range(ledger["committed"]))
    stored = np.array([row["state"] + row["action"] for row in rows], np.float32)
    np.testing.assert_array_equal(stored[: len(logged)], logged)


def check_video(robot: Teleoperation, *, status: str) -> int:
    """Each picture is in one segment, which plays, or named as missing; returns how many are in segments.

    A recording that was killed together with its encoder may lack the last ones.
    """
    seen: list[int] = []
    missing: set[int] = set()
    for path, video in segments(robot.stream_dir):
        assert video.frames is not None
        assert sha256_of(path.read_bytes()) == video.sha256
        _check_pictures(path, video.frames.frame_index)
        seen += video.frames.frame_index
        missing.update(*(range(dropped.first, dropped.end) for dropped in video.dropped))
    assert seen == sorted(set(seen)), "a picture is there twice"
    assert all(index % PICTURE_EVERY == 0 for index in seen)
    if status == "complete" and robot.has_camera:
        taken = set(range(0, len(robot.logged()), PICTURE_EVERY))
        assert missing.union(seen) >= taken, f"pictures of {robot.stream_dir} are nowhere"
    return len(seen)


def wait_until_recorded(robot: Teleoperation) -> None:
    """Return once all of its pictures are in segments, which stay here: its server takes no files."""
    wait_for(lambda: not is_recorded(robot.stream_dir))
    recover(robot.stream_dir)


async def wait_until_filed(robot: Teleoperation, database_url: str, stored: Stored) -> None:
    """Return once the server has each of its segments, and is known to have no other ones."""
    wait_for(
        lambda: not is_recorded(robot.stream_dir) and not has_unstored_video(robot.stream_dir),
        patience_s=PATIENCE_S,
    )
    here = {(video.camera_key, video.chunk_index, video.sha256) for _, video in segments(robot.stream_dir)}
    async with Database.connect(database_url) as database:
        rows = await database.fetch(CHUNKS, robot.stream)
    assert {(row["camera_key"], row["chunk_index"], row["sha256"]) for row in rows} == here
    for row in rows:
        assert row["quarantine"] is None, f"{robot.stream}, segment {row['chunk_index']}: {row['quarantine']}"
        stored.check(f"segment {row['chunk_index']} of {robot.stream}", row["sha256"])


def segments(stream_dir: Path) -> list[tuple[Path, VideoFile]]:
    """The finished segments of a stream, whether or not the server has them, in order."""
    sidecars = sorted(
        path for path in stream_dir.glob("video/*/*.json") if not path.name.endswith(STORED_SUFFIX)
    )
    return [
        (sidecar.with_suffix(".mp4"), msgspec.json.decode(sidecar.read_bytes(), type=VideoFile))
        for sidecar in sidecars
    ]


def _check_pictures(path: Path, frame_index: Sequence[int]) -> None:
    """The segment holds the pictures of those frames, of which each has a shade of its own."""
    with av.open(path) as file:
        shades = [picture.to_ndarray(format="gray").mean() for picture in file.decode(video=0)]
    assert len(shades) == len(frame_index), f"{path} plays {len(shades)} pictures of {len(frame_index)}"
    wanted = np.array(frame_index) % 256
    assert np.abs(np.array(shades) - wanted).max() <= SHADE_TOLERANCE, f"{path} shows other pictures"
