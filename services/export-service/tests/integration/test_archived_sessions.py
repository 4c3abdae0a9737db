"""Sessions whose frames have left the database for the archive."""

ARCHIVED = """
INSERT INTO session_archive (session_id, next_frame_index, frames, frames_sha256, frames_bytes, about_sha256,
                             account, dropped_at)
VALUES ($1, 100, 100, '', 0, '', '{}', now())
"""


async def test_an_archived_session_is_refused_by_name(backend, record, database):
    """An export without its frames would be a silent loss; the answer says how to get them back."""
    here, gone = await record(100), await record(100)
    await database.connection.execute(ARCHIVED, gone)
    await database.connection.execute("DELETE FROM teleop_frame WHERE session_id = $1", gone)
    answer = await backend.ask(here, gone, status=410)
    assert answer["code"] == "session_archived"
    assert f"session {gone} " in answer["detail"]
    assert "restore" in answer["hint"]


async def test_a_session_that_the_archive_has_lost_is_refused_by_name(backend, record, database):
    """A restore could not bring it back; the answer says what could."""
    here, gone = await record(100), await record(100)
    await database.connection.execute(ARCHIVED, gone)
    await database.connection.execute("DELETE FROM teleop_frame WHERE session_id = $1", gone)
    await database.connection.execute("UPDATE session_archive SET damage = 'it is missing'")
    answer = await backend.ask(here, gone, status=410)
    assert answer["code"] == "session_archived"
    assert answer["detail"] == f"the archive has lost the frames of session {gone} (it is missing)"
    assert "give-up-missing" in answer["hint"]
    assert "restore" not in answer["hint"]
