"""Which frames become which episodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_export.errors import EpisodeHasGap, EpisodesOverlap, NothingToExport, SessionsDiffer
from teleop_export.planning.plan import make_plan
from teleop_export.sessions.recorded import ALL_LABELS, UNNAMED, EpisodeRow, Gap, Session, name_gaps
from teleop_export.sessions.spans import Choice

NAMES = ("a.pos", "b.pos")


def session(watermark=100, *, gaps=(), **changes):
    committed = watermark - sum(gap.end - gap.first for gap in gaps)
    values = {
        "id": 1,
        "robot_id": "robot_A",
        "robot_type": "so101",
        "fps": 60.0,
        "task": None,
        "state_names": NAMES,
        "action_names": NAMES,
        "status": "complete",
        "watermark": watermark,
        "committed": committed,
        "gaps": tuple(gaps),
    }
    return Session(**values | changes)


def plan(*sessions, labels=ALL_LABELS, on_gap="split", task=None):
    return make_plan(sessions, choice=Choice(frozenset(labels), task), on_gap=on_gap)


def spans(made):
    return [(piece.first, piece.end) for piece in made.pieces]


def test_session_without_episodes_is_one():
    """All frames of it become one episode with the session's task."""
    made = plan(session(task="pick"))
    assert spans(made) == [(0, 100)]
    assert made.pieces[0].task == "pick"
    assert made.pieces[0].episode_index is None


def test_discarded_episodes_and_frames_between_are_left_out():
    """Each is named with its reason; nothing else is missing."""
    episodes = (EpisodeRow(0, 10, 30), EpisodeRow(1, 40, 60, outcome="discarded"), EpisodeRow(2, 60, 90))
    made = plan(session(episodes=episodes))
    assert spans(made) == [(10, 30), (60, 90)]
    assert [(each.first, each.end, each.frames, each.reason) for each in made.excluded] == [
        (0, 10, 10, "outside all episodes"),
        (30, 40, 10, "outside all episodes"),
        (40, 60, 20, "discarded"),
        (90, 100, 10, "outside all episodes"),
    ]


def test_episodes_stay_whole_however_long():
    """Five hours of recording without an episode are one episode of five hours."""
    made = plan(session(5 * 3600 * 60))
    assert [(piece.first, piece.end) for piece in made.pieces] == [(0, 5 * 3600 * 60)]


def test_outcomes_choose_episodes():
    """Only the labels asked for are taken."""
    episodes = (
        EpisodeRow(0, 0, 50, outcome="success"),
        EpisodeRow(1, 50, 80, outcome="failure"),
        EpisodeRow(2, 80, 100),
    )
    assert spans(plan(session(episodes=episodes), labels={"success"})) == [(0, 50)]
    assert spans(plan(session(episodes=episodes), labels={"failure", "unlabelled"})) == [(50, 80), (80, 100)]


def test_unfinished_episode_ends_with_the_last_frame():
    """Or where the next one begins; an empty one is left out."""
    episodes = (EpisodeRow(0, 0, None), EpisodeRow(1, 40, None), EpisodeRow(2, 100, None))
    assert spans(plan(session(episodes=episodes))) == [(0, 40), (40, 100)]


def test_episode_beyond_the_watermark_is_cut():
    """What is not committed yet is no part of the export."""
    assert spans(plan(session(50, episodes=(EpisodeRow(0, 20, 80),)))) == [(20, 50)]


def test_hole_splits_an_episode():
    """No sample is invented: the episode becomes two, and the gap is named."""
    made = plan(session(gaps=[Gap(40, 45, "disk full")], episodes=(EpisodeRow(0, 20, 80),)))
    assert spans(made) == [(20, 40), (45, 80)]
    (gap,) = made.gaps
    assert (gap.first, gap.end, gap.reason, gap.episode_index) == (40, 45, "disk full", 0)


def test_hole_at_an_edge_shortens_an_episode():
    """There is one piece then, and the gap is named all the same."""
    made = plan(session(gaps=[Gap(15, 25, "lost")], episodes=(EpisodeRow(0, 20, 80),)))
    assert spans(made) == [(25, 80)]
    assert [(gap.first, gap.end) for gap in made.gaps] == [(20, 25)]
    assert made.excluded[0].frames == 15


def test_hole_refuses_an_episode_if_asked():
    """The error names session, episode, frames and reason."""
    with pytest.raises(
        EpisodeHasGap, match="episode 0 of session 1 is missing the frames 40 to 44: disk full"
    ):
        plan(session(gaps=[Gap(40, 45, "disk full")], episodes=(EpisodeRow(0, 20, 80),)), on_gap="refuse")


def test_hole_outside_of_episodes_is_no_reason_to_refuse():
    """Nobody asked for those frames."""
    made = plan(session(gaps=[Gap(2, 4, "x")], episodes=(EpisodeRow(0, 20, 80),)), on_gap="refuse")
    assert spans(made) == [(20, 80)]


def test_overlapping_episodes_are_refused():
    """Otherwise frames would be exported twice."""
    with pytest.raises(EpisodesOverlap, match="share the frames 40 to 49"):
        plan(session(episodes=(EpisodeRow(0, 0, 50), EpisodeRow(1, 40, 100))))


def test_tasks_fall_back():
    """Episode's task, else the session's, else a word of our own."""
    episodes = (EpisodeRow(0, 0, 50, task="fold"), EpisodeRow(1, 50, 100))
    assert [piece.task for piece in plan(session(episodes=episodes, task="pick")).pieces] == ["fold", "pick"]
    assert plan(session()).pieces[0].task == "teleoperation"


def test_an_episode_has_several_tasks():
    """Each piece has those of its frames; an episode is chosen by any of them, and whole."""
    row = EpisodeRow(0, 0, 60, "open", changes=((20, None), (40, "take"), (70, "fold")))
    rows = (row, EpisodeRow(1, 60, 90, "open"))
    recorded = session(gaps=[Gap(30, 40, "lost")], episodes=rows, task="pick")
    assert [(piece.first, piece.task, piece.changes) for piece in plan(recorded).pieces] == [
        (0, "open", ((20, "pick"),)),
        (40, "take", ()),
        (60, "open", ()),
    ]
    made = make_plan([recorded], choice=Choice(task="pick"), on_gap="split")
    assert spans(made) == [(0, 30), (40, 60)]
    made = make_plan([recorded], choice=Choice(task="open"), on_gap="split")
    assert spans(made) == [(0, 30), (40, 60), (60, 90)]
    with pytest.raises(NothingToExport):
        make_plan([recorded], choice=Choice(task="fold"), on_gap="split")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("robot_type", "koch", "so101 and koch"),
        ("fps", 30.0, "60 and 30"),
        ("state_names", ("a.pos", "c.pos"), r"\[a.pos, b.pos\] and \[a.pos, c.pos\]"),
        ("action_names", ("a.pos",), r"\[a.pos, b.pos\] and \[a.pos\]"),
    ],
)
def test_sessions_that_differ_are_refused(name, value, told):
    """The error names what differs, and how."""
    with pytest.raises(SessionsDiffer, match=told) as caught:
        plan(session(), session(id=2, **{name: value}))
    assert caught.value.field == name


def test_nothing_left_is_refused():
    """A dataset without frames can't be loaded; why none is left is told."""
    with pytest.raises(NothingToExport, match="have no frames"):
        plan(session(0))
    with pytest.raises(NothingToExport, match="100 frames: outcome not requested: unlabelled"):
        plan(session(), labels={"success"})
    episodes = (EpisodeRow(0, 0, 30, outcome="discarded"), EpisodeRow(1, 30, 80, "place"))
    with pytest.raises(NothingToExport) as caught:
        plan(session(episodes=episodes), task="pick")
    reasons = "50 frames: task not requested: place; 30 frames: discarded; 20 frames: outside all episodes"
    assert reasons in str(caught.value)


@st.composite
def recordings(draw):
    """Any session: episodes in any order with any outcome, gaps anywhere."""
    cuts = sorted(draw(st.sets(st.integers(0, 120), max_size=8)))
    episodes = tuple(
        EpisodeRow(index, first, end, outcome=draw(st.sampled_from([None, "success", "discarded"])))
        for index, (first, end) in enumerate(zip(cuts[::2], cuts[1::2], strict=False))
    )
    edges = sorted(draw(st.sets(st.integers(0, 100), max_size=8)))
    gaps = [Gap(first, end, "lost") for first, end in zip(edges[::2], edges[1::2], strict=False)]
    return session(gaps=gaps, episodes=episodes)


@given(recordings())
def test_every_frame_is_accounted_for(recorded):
    """Pieces and exclusions hold every stored frame exactly once, and no other frame."""
    stored = set(range(recorded.watermark)) - {
        index for gap in recorded.gaps for index in range(gap.first, gap.end)
    }
    try:
        made = plan(recorded)
    except NothingToExport:
        return
    exported = [index for piece in made.pieces for index in range(piece.first, piece.end)]
    excluded = [index for each in made.excluded for index in range(each.first, each.end) if index in stored]
    assert sorted(exported + excluded) == sorted(stored)
    assert sum(each.frames for each in made.excluded) == len(excluded)
    assert made.frames == recorded.committed - len(excluded)


def test_holes_get_the_reasons_noted_for_them():
    """What nobody noted is told as such; a gap that was filled after all is none."""
    named = [Gap(5, 10, "disk full"), Gap(30, 40, "filled since")]
    assert list(name_gaps([(3, 12)], named)) == [
        Gap(3, 5, UNNAMED),
        Gap(5, 10, "disk full"),
        Gap(10, 12, UNNAMED),
    ]
