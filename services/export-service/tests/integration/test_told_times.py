"""Times that were not told, or can't be right, are named by reports."""

import pytest

COME_WITHOUT = "UPDATE teleop_session SET delivery = 'best_effort', untold_times = 7 WHERE id = $1"
# As of a robot whose clock is three days ahead, or was never set.
AHEAD = "UPDATE teleop_session SET last_commit_at = start_time - interval '3 days' WHERE id = $1"
REFUSE = """
INSERT INTO refused_frames (session_id, number, field, reason, frames) VALUES ($1, $2, 'action', 'odd', $3)
"""
BEFORE_2000 = """
UPDATE teleop_frame SET "timestamp" = "timestamp" - interval '50 years'
 WHERE session_id = $1 AND frame_index < 20
"""


@pytest.mark.parametrize("wanted", ["lerobot-v3.0", "parquet"])
async def test_frames_that_came_without_a_time(backend, record, database, wanted):
    """Counted by the session's report, of a dataset and of a raw export."""
    session = await record(60)
    await database.connection.execute(COME_WITHOUT, session)
    export, _ = await backend.export(session, format=wanted)
    (told,) = export["report"]["sessions"]
    assert (told["times_not_told"], told["implausible"]) == (7, 0)
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert "7 frames came without a time" in text


@pytest.mark.parametrize(("change", "frames"), [(AHEAD, 60), (BEFORE_2000, 20)])
async def test_frames_whose_time_can_not_be_right(backend, record, database, change, frames):
    """As many as the ledger counts; they are exported all the same."""
    session = await record(60)
    await database.connection.execute(
        "UPDATE teleop_session SET last_commit_at = start_time + interval '1 minute' WHERE id = $1", session
    )
    await database.connection.execute(change, session)
    export, _ = await backend.export(session)
    (told,) = export["report"]["sessions"]
    assert (told["exported"], told["times_not_told"], told["implausible"]) == (60, 0, frames)
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert f"{frames} frames with a time before 2000" in text


@pytest.mark.parametrize("wanted", ["lerobot-v3.0", "parquet"])
async def test_frames_that_the_server_refused(backend, record, database, wanted):
    """They are nowhere, so the account of what was committed can't have them; the report names them."""
    session = await record(60)
    for number, frames in enumerate((1, 2)):
        await database.connection.execute(REFUSE, session, number, frames)
    export, _ = await backend.export(session, format=wanted)
    assert export["report"]["sessions"][0]["refused"] == 3
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert "the server refused 3 frames when they were sent" in text
