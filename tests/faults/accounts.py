"""What the database must hold once all is quiet."""

import time
from typing import Any

import httpx
import numpy as np
from teleop_testing.database import Database
from teleop_testing.teleoperation import Teleoperation


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
    assert ledger["complete"], ledger
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
