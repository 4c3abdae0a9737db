"""Which rate a dataset has."""

import pytest
from teleop_dataset.v3.info import VideoFeature
from teleop_export.errors import BadFps, RatesDiffer, SessionsDiffer
from teleop_export.sessions.rates import RecordedEpisode, choose_fps
from teleop_export.sessions.recorded import CameraVideo, Session
from teleop_export.timing.loop_times import US_PER_S
from teleop_export.timing.pace import Pace

FRONT = VideoFeature("front", 48, 64, "h264", "yuv420p")


def pace(hz, *, seconds=6.0):
    return Pace(((round(hz * seconds), round(seconds * US_PER_S)),))


def episodes(*rates, declared=30.0, session=1, cameras=None):
    """Of one session, at these rates; None: too short to tell."""
    footage = {
        name: CameraVideo(48, 64, "h264", "yuv420p", fps, (1,), 100, 1000)
        for name, fps in (cameras or {}).items()
    }
    whole = Session(
        session,
        "robot_A",
        "so101",
        declared,
        None,
        ("a.pos",),
        ("a.pos",),
        "complete",
        100,
        100,
        footage=footage,
    )
    return [
        RecordedEpisode(whole, index, Pace() if hz is None else pace(hz)) for index, hz in enumerate(rates)
    ]


@pytest.mark.parametrize(
    ("declared", "measured", "fps"),
    [
        (30, (59.999,), 30),
        (30, (20.01,), 20),
        (30, (19.98, 20.3), 20),
        (30, (29.1, 30.2), 30),
        (30, (28.4,), 28),
        (60, (47.4,), 47),
        (15, (10.0,), 10),
        (30, (None,), 30),
        (30, (None, 20.0), 20),
        (60, (0.97,), 1),
    ],
)
def test_rate_is_the_declared_one_unless_the_loop_was_slower(declared, measured, fps):
    """A loop within a twentieth of what it declared is taken for that."""
    assert choose_fps(episodes(*measured, declared=float(declared)), [], None) == fps


def test_camera_slower_than_the_loop_gives_the_rate():
    """Also where the loop was slower than declared, but not than the camera."""
    assert choose_fps(episodes(20.0, cameras={"front": 15.0}), [FRONT], None) == 15
    assert choose_fps(episodes(12.0, cameras={"front": 15.0}), [FRONT], None) == 12


def test_episodes_of_differing_rates_are_refused_with_a_rate_that_fits():
    """One slow episode does not take a third of the rows of all others without a word."""
    mixed = [*episodes(30.0, 29.9), *episodes(20.0, 30.0, session=2)]
    with pytest.raises(RatesDiffer, match=r"episode 0 of session 2 was recorded at 20\.00 Hz") as caught:
        choose_fps(mixed, [], None)
    assert caught.value.hint == (
        'set `"fps": 20`, or leave out episode 0 of session 2 '
        '(PATCH /sessions/2/episodes/0 {"outcome": "discarded"})'
    )
    assert choose_fps(mixed, [], 20) == 20


@pytest.mark.parametrize(
    ("declared", "measured", "wanted", "limit"), [(30, 20.0, 30, 20), (30, 60.0, 61, 60), (30, None, 31, 30)]
)
def test_no_rate_above_that_of_the_samples(declared, measured, wanted, limit):
    """Rows can't be invented; the error says what can be asked for."""
    recorded = episodes(measured, declared=float(declared))
    with pytest.raises(BadFps, match="can't add rows") as caught:
        choose_fps(recorded, [], wanted)
    assert (caught.value.field, caught.value.limit) == ("fps", limit)
    assert choose_fps(recorded, [], limit) == limit


def test_rate_above_the_declared_one_is_possible():
    """If the loop really was that fast."""
    assert choose_fps(episodes(60.0), [], 60) == 60


def test_sessions_that_declare_differing_rates_need_one_to_be_asked_for():
    """The error names one that fits."""
    both = [*episodes(30.0), *episodes(60.0, declared=60.0, session=2)]
    with pytest.raises(SessionsDiffer, match="30 and 60") as caught:
        choose_fps(both, [], None)
    assert caught.value.hint.endswith('`"fps": 30`')
    assert choose_fps(both, [], 30) == 30


@pytest.mark.parametrize(
    ("declared", "measured", "fps"),
    [
        (29.97, 29.97, 30),
        (59.94, None, 60),
        (23.976, 23.976, 24),
        (3.9, 3.9, 4),
        (30, 3.9, 4),
        (30, 19.6, 20),
        (2.6, 2.6, 2),  # 3 would be 15 % too fast
        (7.5, 7.5, 7),
        (30, 2.6, 2),
    ],
)
def test_rate_that_is_no_whole_number_becomes_the_nearest(declared, measured, fps):
    """All samples are rows then; where that would play more than a twentieth too fast it is the one below,
    and samples are left out, so that the dataset is as fast as the robot was."""
    assert choose_fps(episodes(measured, declared=declared), [], None) == fps
    assert choose_fps(episodes(measured, declared=declared), [], fps) == fps


def test_loop_below_one_sample_a_second_makes_no_dataset():
    """LeRobot's rates begin at 1; the error names the rate, and the formats that have none."""
    with pytest.raises(BadFps, match=r"0\.5") as caught:
        choose_fps(episodes(None, declared=0.5), [], None)
    assert (caught.value.field, caught.value.hint.count("mcap")) == ("fps", 1)


@pytest.mark.parametrize("declared", [30.0, 1.0])
@pytest.mark.parametrize("wanted", [None, 1])
def test_loop_that_was_below_one_sample_a_second_makes_no_dataset(declared, wanted):
    """Whatever it declared: twenty seconds would last sixteen. The error says how fast it was."""
    slow, other = episodes(0.8, 1.0, declared=declared)
    slow = RecordedEpisode(slow.session, slow.index, pace(0.8, seconds=20))
    with pytest.raises(BadFps) as caught:
        choose_fps([slow, other], [], wanted)
    assert "0.80 Hz" in caught.value.detail
    assert slow.name in caught.value.detail
    assert caught.value.field == "fps"
    assert "mcap" in caught.value.hint
    assert choose_fps([other], [], wanted) == 1


def test_loop_below_one_sample_a_second_is_named_beside_others():
    """Not a rate of 0."""
    both = [*episodes(30.0), *episodes(0.4, declared=0.4, session=2)]
    with pytest.raises(SessionsDiffer, match=r"30 and 0\.4") as caught:
        choose_fps(both, [], None)
    assert "below 1 Hz" in caught.value.hint
    with pytest.raises(BadFps):
        choose_fps(both, [], 1)
