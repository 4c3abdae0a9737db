"""TelemetryClient against its own spool, without a server."""

import asyncio
import math

import msgspec
import numpy as np
import pytest
from lerobot_robot_backend.shipper import ship_stream
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.stream import (
    SpoolError,
    StreamProgress,
    read_stream,
    send_to,
    write_progress,
)
from teleop_schema.errors import BadRobotId
from teleop_schema.limits import Limits
from teleop_schema.messages import Batch
from teleop_schema.session import Camera
from teleop_testing.waiting import until

NAMES = ("shoulder.pos", "elbow.pos")


def joints(shoulder: object = 1.5, elbow: object = -2.0) -> dict[str, object]:
    return {"shoulder.pos": shoulder, "elbow.pos": elbow}


def read_all(client) -> list[Batch]:
    reader = SpoolReader(client.stream_dir)
    return list(iter(lambda: reader.read(Limits()), None))


def test_values_are_kept_in_the_order_of_names(make_client):
    """State and action become float32 vectors by name, whatever the order of the dictionaries."""
    with make_client() as client:
        assert client.log({"elbow.pos": 2, "shoulder.pos": np.float32(1.5)}, joints(3.0, 4.0)) == 0
        assert client.log(joints(), joints()) == 1
        assert client.logged == 2
    (batch,) = read_all(client)
    assert np.frombuffer(batch.state, "<f4").tolist() == [1.5, 2.0, 1.5, -2.0]
    assert np.frombuffer(batch.action, "<f4").tolist() == [3.0, 4.0, 1.5, -2.0]
    assert batch.extra == {}
    assert np.diff(np.frombuffer(batch.timestamps, "<i8"))[0] >= 0


def test_what_goes_beyond_the_names_is_kept_as_extra(make_client):
    """Strangers, a clipped action and free extras are kept; pictures and an equal sent action are not."""
    with make_client(cameras={"front": Camera(480, 640, 30.0)}) as client:
        picture = np.zeros((480, 640, 3), np.uint8)
        client.log(joints() | {"front": picture}, joints(), sent_action=joints())
        client.log(joints() | {"load": 0.5}, joints() | {"button": True}, sent_action=joints(elbow=0.0))
        client.log(joints(), joints(), extra={"policy": "act"})
        client.log(joints(), joints(), sent_action=joints(shoulder=np.zeros(3)))
    (batch,) = read_all(client)
    assert batch.extra == {
        1: {
            "observation": {"load": 0.5},
            "action": {"button": True},
            "sent_action": {"shoulder.pos": 1.5, "elbow.pos": 0.0},
        },
        2: {"policy": "act"},
        3: {"sent_action": {"shoulder.pos": [0.0, 0.0, 0.0], "elbow.pos": -2.0}},
    }


def test_repeated_observation_is_told_with_its_age(make_client):
    """A loop of one's own says how old an observation is that stands beside a newer action, and nothing of
    one that is the frame's own."""
    with make_client() as client:
        client.log(joints(), joints(), observation_age_us=0)
        client.log(joints(), joints(), observation_age_us=16_667, extra={"policy": "act"})
        client.log(joints(), joints(), observation_age_us=33_334)
        client.log(joints(), joints(), observation_age_us=-5)
    (batch,) = read_all(client)
    assert batch.observation_ages_us == {1: 16_667, 2: 33_334}
    assert batch.extra == {1: {"policy": "act"}}


@pytest.mark.parametrize(
    ("elbow", "stored"),
    [
        (True, 1.0),
        (False, 0.0),
        (np.bool_(True), 1.0),
        (None, math.nan),
        (math.nan, math.nan),
        (np.float32("inf"), math.inf),
        (-math.inf, -math.inf),
        (1e39, math.inf),
        (-1e39, -math.inf),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (3.40282350e38, 3.4028234663852886e38),
    ],
)
def test_nothing_measured_is_thrown_away(make_client, elbow, stored):
    """Truth values, NaN, infinities and what a float32 can't hold become what LeRobot makes of them."""
    with make_client() as client:
        client.log(joints(elbow=elbow), joints())
        client.log(joints(), joints(elbow=elbow))
    (batch,) = read_all(client)
    state, action = (np.frombuffer(part, "<f4").tolist() for part in (batch.state, batch.action))
    np.testing.assert_equal(state, [1.5, stored, 1.5, -2.0])
    np.testing.assert_equal(action, [1.5, -2.0, 1.5, stored])


def test_missing_names_are_nan(make_client):
    """A frame that lacks values of an observation or an action stays; strangers beside them stay, too."""
    with make_client() as client:
        client.log(joints(), {"shoulder.pos": 1.0})
        client.log({"elbow.pos": 2.0, "load": 0.5}, joints(), sent_action=joints())
        client.log({}, {})
    (batch,) = read_all(client)
    state, action = (np.frombuffer(part, "<f4").tolist() for part in (batch.state, batch.action))
    np.testing.assert_equal(state, [1.5, -2.0, math.nan, 2.0, math.nan, math.nan])
    np.testing.assert_equal(action, [1.0, math.nan, 1.5, -2.0, math.nan, math.nan])
    assert batch.extra == {1: {"observation": {"load": 0.5}}}


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (joints(elbow="2.0"), "elbow.pos is of type str, not a number"),
        (joints(elbow=np.zeros(2)), "elbow.pos is of type ndarray, not a number"),
        (joints(elbow=b"2"), "elbow.pos is of type bytes, not a number"),
        (joints(elbow=2j), "elbow.pos is of type complex, not a number"),
    ],
)
def test_bad_value_is_an_error_and_a_named_gap(make_client, observation, reason):
    """The caller hears which joint is wrong, and the frame's index is kept as a gap with that reason."""
    with make_client() as client:
        client.log(joints(), joints())
        with pytest.raises(ValueError, match="elbow") as error:
            client.log(observation, joints())
        client.log(joints(), joints())
    assert str(error.value).startswith(reason)
    _, gap, last = read_all(client)
    assert (gap.first, gap.count) == (1, 1)
    assert gap.gap.startswith(reason)
    assert (last.first, last.count) == (2, 1)


def test_episodes_are_numbered_by_the_session(make_client):
    """Each start has a new number; an open episode is ended by the next start; ending nothing is nothing."""
    with make_client() as client:
        client.end_episode("success")
        assert client.start_episode("pick") == 0
        client.log(joints(), joints())
        with pytest.raises(ValueError, match="'succes', not one of success, failure"):
            client.end_episode("succes")
        client.end_episode("discarded", note="slipped")
        assert client.start_episode("pick") == 1
        client.log(joints(), joints())
        assert client.start_episode("place") == 2
        client.mark("look here")
        client.log(joints(), joints())
    told = [event for batch in read_all(client) for event in batch.events]
    assert [(e.kind, e.frame_index, e.episode_index, e.task, e.outcome, e.note) for e in told] == [
        ("episode_start", 0, 0, "pick", None, None),
        ("episode_end", 1, 0, None, "discarded", "slipped"),
        ("episode_start", 1, 1, "pick", None, None),
        ("episode_end", 2, 1, None, None, None),
        ("episode_start", 2, 2, "place", None, None),
        ("mark", 2, None, None, None, "look here"),
    ]


def test_session_is_described_before_the_first_frame(make_client, spool):
    """session.json says who records what for whom, in a directory that only its owner reads."""
    with make_client(task="pick", cameras={"front": Camera(480, 640)}, host={"arm": 7}) as client:
        file = read_stream(client.stream_dir)
    assert client.stream_dir.parent == spool / "robot_A"
    assert client.stream_dir.name == str(file.stream)
    assert file.session.state_names == NAMES
    assert file.session.fps == 60.0
    assert file.session.task == "pick"
    assert file.session.cameras == {"front": Camera(480, 640)}
    assert file.session.host["arm"] == 7
    assert client.stream_dir.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"fps": 0}, ValueError, "fps"),
        ({"state_names": ("",)}, ValueError, "state_names"),
        ({"cameras": {"front": "no camera"}}, ValueError, "cameras"),
        ({"min_free_bytes": 2**62}, SpoolError, "TB to start"),
    ],
)
def test_impossible_sessions_are_refused(make_client, spool, options, error, named):
    """A session that could not be kept or described is refused at its start, and leaves nothing behind."""
    with pytest.raises(error, match=named):
        make_client(**options)
    assert not spool.exists()


def test_bad_robot_id_is_refused(backend, spool):
    """A robot_id that could leave the spool is none."""
    from lerobot_robot_backend import TelemetryClient

    with pytest.raises(BadRobotId):
        TelemetryClient(backend.url, "../x", state_names=NAMES, action_names=NAMES, fps=60, spool_dir=spool)


def test_drain_says_what_is_in_the_way(make_client):
    """What is not acknowledged in time is an error that tells how much, why, and where it is kept."""
    with make_client() as client:
        client.log(joints(), joints())
        client.log(joints(), joints())
    write_progress(
        client.stream_dir,
        StreamProgress(next=1, session_id=5, trouble="the server refuses the connection with 401"),
    )
    told = r"1 of 2 frames acknowledged .* refuses the connection with 401.*kept in"
    with pytest.raises(TimeoutError, match=told):
        client.drain(0.0)
    assert client.session_id == 5
    assert client.acknowledged == 1
    assert "mistyped" not in client.summary()  # a server has answered there
    assert (
        "2 frames logged, 1 acknowledged by the server (session 5); the rest is safe in" in client.summary()
    )
    write_progress(client.stream_dir, StreamProgress(next=2, session_id=5, ended=True))
    assert client.drain(0.0) == 2
    assert client.summary().endswith(": complete")


async def test_last_lines_correct_a_mistyped_address(make_client, unused_tcp_port):
    """Whoever was never answered reads why, that nothing is lost, and what to type: two lines, which name the
    stream's long folder once."""
    with make_client() as client:
        client.log(joints(), joints())
    send_to(client.stream_dir, f"ws://localhost:{unused_tcp_port}")
    shipping = asyncio.create_task(ship_stream(client.stream_dir))
    await until(lambda: client.progress.trouble)
    why, what = client.summary().splitlines()
    address = f"ws://localhost:{unused_tcp_port}"
    assert why == f"1 frame logged, 0 acknowledged by the server: {address}: Connection refused"
    command = f"python -m lerobot_robot_backend.shipper --backend_url ws://SERVER:8000 {client.stream_dir}"
    assert what == f"the rest is safe on this disk; if the address is wrong: {command}"
    sent_by = client.progress.summary(1, client.stream_dir, 4711).splitlines()[1]
    assert sent_by.startswith(
        "the rest is safe on this disk, and process 4711 keeps trying; if the address is "
    )
    shipping.cancel()
    await asyncio.gather(shipping, return_exceptions=True)


def test_damaged_note_of_progress_is_no_obstacle(make_client):
    """The file of what was acknowledged may be lost: the server knows."""
    with make_client() as client:
        (client.stream_dir / "acked").write_bytes(b"{")
        assert client.acknowledged == 0
        (client.stream_dir / "acked").write_bytes(msgspec.json.encode({"next": "x"}))
        assert client.acknowledged == 0


def test_closing_twice_changes_nothing(make_client):
    """A closed session takes nothing more, and says so."""
    client = make_client()
    client.close()
    client.close()
    with pytest.raises(SpoolError, match="closed"):
        client.log(joints(), joints())
    assert SpoolReader(client.stream_dir).read(Limits()) is None
