"""Which frames become rows, read in batches."""

import numpy as np
import pyarrow as pa
import pytest
from teleop_export.making.frame_source import read_pieces
from teleop_export.making.rows import choose_rows
from teleop_export.planning.pieces import Piece
from teleop_export.timing.loop_times import Which
from teleop_runtime.postgres.frames import frame_schema

FPS = 30
STEP_US = 33_333


class Recorded:
    """A session's frames, of these times."""

    def __init__(self, taken_us):
        self.taken_us = taken_us

    def read(self, session_id, first, end, *, state_width, action_width):
        index = np.arange(first, min(end, len(self.taken_us)))
        values = [[0.0]] * len(index)
        nothing = [None] * len(index)
        columns = [index, self.taken_us[index], values, values, nothing, nothing, nothing]
        schema = frame_schema(state_width, action_width)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        return pa.table(arrays, schema=schema)


def lengths(taken_us, pieces, *, around):
    batches = read_pieces(Recorded(taken_us), pieces, state_width=1, action_width=1, around={1: around})
    return [length for fetched in batches for length in choose_rows(fetched, Which(), fps=FPS).lengths]


@pytest.mark.parametrize("between", [0, 20], ids=["next", "after frames of no episode"])
def test_an_episode_that_begins_in_a_burst_has_all_its_rows(between):
    """Saving the episode before held the loop up; it catches up while the next one goes on."""
    late_us = 1_000_000 + np.arange(80 + between) * STEP_US
    held = 40 + between // 2
    late_us[held:] = np.maximum(
        late_us[held:], late_us[held] + 300_000 + 2_000 * np.arange(len(late_us) - held)
    )
    pieces = [Piece(1, 0, 40, "t", 0), Piece(1, 40 + between, 80 + between, "t", 1)]
    assert lengths(late_us, pieces, around=3 * FPS) == [40, 40]
    assert lengths(late_us, pieces[1:], around=3 * FPS) == [40]
