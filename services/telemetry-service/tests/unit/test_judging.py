"""What a change makes of an episode."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.errors import BadInput
from teleop_telemetry.library.judging import COLUMNS, Judged, changed, differences
from teleop_telemetry.tables.views import EpisodeChange

REASONS = {"dropped": "failure", "collision": "failure", "wrong_task": "discarded"}
PLAIN = Judged(
    start_frame=2,
    end_frame=6,
    task="pick",
    later_tasks={"4": "place"},
    outcome=None,
    reason=None,
    quality=None,
    note=None,
    tags=None,
    operator=None,
)
FAILED = msgspec.structs.replace(PLAIN, outcome="failure", reason="dropped", quality=2, tags=["a"])


def judge(stored: Judged, **change) -> Judged:
    wanted = msgspec.convert(change, EpisodeChange)
    return changed(stored, wanted, frames=10, reasons=REASONS)


def told(stored: Judged, **change) -> dict:
    return differences(stored, judge(stored, **change))[1]


def test_what_is_left_out_stays():
    assert judge(FAILED) == FAILED
    assert told(FAILED, quality=5) == {"quality": 5}


def test_a_task_is_that_of_all_frames():
    assert told(PLAIN, task="sort") == {"task": "sort", "later_tasks": {"4": "sort"}}
    assert told(PLAIN, task="") == {"task": None, "later_tasks": {"4": None}}


def test_a_reason_goes_with_its_outcome():
    assert told(FAILED, outcome="success") == {"outcome": "success", "reason": None}
    assert told(FAILED, outcome=None) == {"outcome": None, "reason": None}
    assert told(FAILED, outcome="discarded", reason="wrong_task") == {
        "outcome": "discarded",
        "reason": "wrong_task",
    }
    assert told(FAILED, reason="collision") == {"reason": "collision"}
    assert told(FAILED, reason=None) == {"reason": None}
    assert told(FAILED, note="x") == {"note": "x"}


def test_a_reason_that_was_taken_out_stays_until_another_outcome():
    kept = msgspec.structs.replace(FAILED, reason="of_before")
    assert told(kept, quality=1) == {"quality": 1}
    assert told(kept, outcome="success") == {"outcome": "success", "reason": None}


def test_tags_are_told_once():
    assert told(PLAIN, tags=["b", "a", "b", ""]) == {"tags": ["b", "a"]}
    assert told(FAILED, tags=[]) == {"tags": None}


@pytest.mark.parametrize(
    ("change", "field", "hint"),
    [
        ({"reason": "dropped"}, "reason", "tell the outcome, too"),
        ({"outcome": "failure", "reason": "wrong_task"}, "reason", "one of collision, dropped"),
        ({"outcome": "success", "reason": "unheard"}, "reason", "there is none yet"),
        ({"start_frame": 7}, "start_frame", None),
        ({"end_frame": 11}, "end_frame", None),
        ({"start_frame": 5, "end_frame": 4}, "end_frame", None),
    ],
)
def test_what_makes_no_sense_is_refused(change, field, hint):
    with pytest.raises(BadInput) as error:
        judge(PLAIN, **change)
    assert error.value.field == field
    assert hint is None or hint in error.value.hint


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "outcome": st.sampled_from(["success", "failure", "discarded", None]),
            "quality": st.integers(1, 5) | st.none(),
            "note": st.text(st.characters(exclude_characters="\0"), max_size=3) | st.none(),
            "tags": st.lists(st.sampled_from(["a", "b"]), max_size=3),
            "operator": st.sampled_from(["kim", None]),
            "end_frame": st.integers(2, 10),
        },
    )
)
def test_differences_lead_there_and_back(change):
    judged = judge(FAILED, **change)
    before, after = differences(FAILED, judged)
    assert before.keys() == after.keys() <= set(COLUMNS)
    assert msgspec.structs.replace(FAILED, **after) == judged
    assert msgspec.structs.replace(judged, **before) == FAILED
