"""What a plan is told of a session's samples."""

import numpy as np
import pytest
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from teleop_export.tables import chunk_table
from teleop_export.tables.chunk_table import read_not_finite, read_samples

FRAMES, END = 100, 90
ONE_BY_ONE = """
SELECT frame_index, (extract(epoch FROM "timestamp") * 1000000)::bigint AS us,
       observation_age_us IS NULL AS own
  FROM teleop_frame WHERE session_id = %s AND frame_index < %s ORDER BY frame_index
"""


@pytest.mark.parametrize("at_once", [1, 7, 20, 80, 81, chunk_table.SAMPLES_AT_ONCE])
async def test_samples_come_in_parts_of_any_size(database_url, record, monkeypatch, at_once):
    """In order, none twice, whatever frames are missing and wherever a part ends."""
    monkeypatch.setattr(chunk_table, "SAMPLES_AT_ONCE", at_once)
    session = await record(FRAMES, gaps=[(20, 30, "lost")], observed=3)
    async with await AsyncConnection.connect(database_url, row_factory=dict_row) as connection:
        rows = await (await connection.execute(ONE_BY_ONE, [session, END])).fetchall()
        samples = await read_samples(connection, session, END)
    assert len(rows) == 80
    assert samples.index.tolist() == [row["frame_index"] for row in rows]
    assert samples.taken_us.tolist() == [row["us"] for row in rows]
    assert samples.own.tolist() == [row["own"] for row in rows]


async def test_a_session_without_samples_has_none(database_url, record):
    """Nothing was committed, or only other frames than those asked for."""
    session = await record(FRAMES, lost=range(FRAMES // 2))
    async with await AsyncConnection.connect(database_url, row_factory=dict_row) as connection:
        for end in (0, FRAMES // 2):
            assert len(await read_samples(connection, session, end)) == 0
            assert len((await read_not_finite(connection, session, end)).index) == 0


async def test_the_first_value_that_is_not_finite_is_told(database, database_url, record):
    """State's before action's, below the watermark only."""
    session = await record(FRAMES)
    for frame, column, position, value in (
        (5, "state", 2, "NaN"),
        (6, "action", 1, "Infinity"),
        (7, "state", 3, "-Infinity"),
        (7, "action", 3, "NaN"),
        (END, "state", 1, "NaN"),
    ):
        await database.connection.execute(
            f"UPDATE teleop_frame SET {column}[{position}] = '{value}' "
            f"WHERE session_id = {session} AND frame_index = {frame}"
        )
    async with await AsyncConnection.connect(database_url, row_factory=dict_row) as connection:
        unfit = await read_not_finite(connection, session, END)
    assert np.stack([unfit.index, unfit.number]).T.tolist() == [[5, 2], [6, 4], [7, 3]]
