"""The tap on a robot as LeRobot makes it, without LeRobot; the stock commands are run in tests/e2e."""

import functools
import itertools
import logging
import time
from types import SimpleNamespace

import numpy as np
import pytest
from lerobot.utils.feature_utils import build_dataset_frame, hw_to_dataset_features
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.lerobot import tap as tap_module
from lerobot_robot_backend.lerobot.options import Request
from lerobot_robot_backend.lerobot.tap import Tap
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.stream import read_stream
from lerobot_robot_backend.video.files import finished_segments
from teleop_schema.limits import Limits
from teleop_schema.session import Camera

COMMAND = SimpleNamespace(fps=60, dataset=None)


class Robot:
    """An arm of one joint with a camera."""

    name = "arm"
    id = "left"
    observation_features = {"joint.pos": float, "front": (48, 64, 3), "depth": (48, 64, 1), "mode": str}  # noqa: RUF012
    action_features = {"joint.pos": float}  # noqa: RUF012
    cameras = {"front": SimpleNamespace(fps=30)}  # noqa: RUF012

    def __init__(self) -> None:
        self.observation = {"joint.pos": 1.0, "front": np.zeros((48, 64, 3), np.uint8)}

    def connect(self, calibrate: bool = True) -> None:
        pass

    def get_observation(self) -> dict:
        return self.observation

    def send_action(self, action: dict) -> dict:
        return {"joint.pos": min(action.pop("joint.pos"), 5.0)}

    def disconnect(self) -> None:
        pass


@pytest.fixture
def tap(tmp_path, monkeypatch) -> Tap:
    """A tap for a command at 60 Hz that ships nothing."""
    monkeypatch.setenv("LEROBOT_BACKEND_SPOOL", str(tmp_path / "spool"))
    client = functools.partial(TelemetryClient, ship=False, min_free_bytes=0, video="off")
    monkeypatch.setattr(tap_module, "TelemetryClient", client)
    monkeypatch.setattr(tap_module, "FINISH_S", 0.0)
    request = Request({"backend_url": "ws://localhost:8000", "robot_id": "robot_A"}, by_flag=True)
    return Tap(request)


@pytest.fixture
def robot(tap) -> Robot:
    """A robot with the tap on it, connected."""
    robot = Robot()
    tap._robot_found(robot, COMMAND)
    robot.connect()
    return robot


def step(robot: Robot, goal: float = 2.0) -> dict:
    robot.get_observation()
    return robot.send_action({"joint.pos": goal})


def recorded(tap: Tap):
    """The only batch of the session, which ends here."""
    tap._close()
    reader = SpoolReader(tap._client.stream_dir)
    return reader.read(Limits())


def test_loop_is_recorded_as_it_was(tap, robot):
    """State, asked and clipped action of each step; what the robot or the loop does to its dictionaries later
    changes nothing."""
    step(robot, 2.0)
    robot.get_observation()
    robot.observation["joint.pos"] = 9.0
    assert robot.send_action({"joint.pos": 7.0}) == {"joint.pos": 5.0}
    robot.disconnect()
    batch = recorded(tap)
    assert np.frombuffer(batch.state, "<f4").tolist() == [1.0, 1.0]
    assert np.frombuffer(batch.action, "<f4").tolist() == [2.0, 7.0]
    assert batch.extra == {1: {"sent_action": {"joint.pos": 5.0}}}


def test_repeated_observation_is_told_apart(tap, robot, monkeypatch):
    """An action that comes without a new observation is stored at its own time, with the age of the
    observation that it repeats: of 180 rows at 60 Hz with 12 observations, 12 have one of their own."""
    now_ns, tick = itertools.count(time.monotonic_ns(), 10**9 // 60), [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: tick[0])
    for number, tick[0] in zip(range(180), now_ns, strict=False):
        if number % 15 == 0:
            robot.observation["joint.pos"] = float(number)
            robot.get_observation()
        robot.send_action({"joint.pos": 1.0})
    batch = recorded(tap)
    times = np.frombuffer(batch.timestamps, "<i8")
    own = [number for number in range(180) if number not in batch.observation_ages_us]
    assert own == list(range(0, 180, 15))
    assert set(np.diff(times)) <= {16_666, 16_667}
    observed = {number: times[number] - age for number, age in batch.observation_ages_us.items()}
    assert observed == {number: times[number - number % 15] for number in observed}
    assert np.frombuffer(batch.state, "<f4").tolist() == [
        float(number - number % 15) for number in range(180)
    ]


def test_observation_that_failed_is_none(tap, robot):
    """An action after a failed observation stands beside the one before it, and says so."""
    step(robot)
    robot.get_observation()
    reading = robot.observation
    del robot.observation
    with pytest.raises(AttributeError):
        robot.get_observation()
    robot.send_action({"joint.pos": 1.0})
    robot.send_action({"joint.pos": 2.0})
    robot.observation = reading
    step(robot)
    batch = recorded(tap)
    assert (batch.count, list(batch.observation_ages_us)) == (4, [2])


@pytest.fixture
def mixed(tap) -> Robot:
    """A robot with an `int` and a truth value beside its joint, connected."""
    robot = Robot()
    robot.observation_features = {"joint.pos": float, "grip.closed": float, "ticks": int}
    robot.action_features = {"joint.pos": float, "gear": int}
    robot.observation = {"joint.pos": 1.0, "grip.closed": True, "ticks": 16_777_217}
    robot.send_action = lambda action: action
    tap._robot_found(robot, COMMAND)
    robot.connect()
    return robot


def test_state_is_what_lerobot_makes_of_it(tap, mixed):
    """`float` features are the state and the action, whatever a robot gives for them, and in LeRobot's bits;
    an `int` is kept beside, exactly."""
    features = {
        **hw_to_dataset_features(mixed.observation_features, "observation"),
        **hw_to_dataset_features(mixed.action_features, "action"),
    }
    readings = [1.5, True, float("nan"), None, 1e39, float("-inf")]
    for reading in readings:
        mixed.observation["joint.pos"] = reading
        mixed.get_observation()
        mixed.send_action({"joint.pos": 2.0, "gear": 3})
    session = SpoolReader(tap._client.stream_dir).description.session
    batch = recorded(tap)
    for key, names, column in (
        ("observation.state", session.state_names, batch.state),
        ("action", session.action_names, batch.action),
    ):
        assert list(names) == features[key]["names"], key
        with np.errstate(over="ignore"):
            theirs = [
                build_dataset_frame(
                    features,
                    {**mixed.observation, "joint.pos": 2.0 if key == "action" else reading},
                    key.split(".")[0],
                )[key].tobytes()
                for reading in readings
            ]
        assert column == b"".join(theirs), key
    beside = {"observation": {"ticks": 16_777_217}, "action": {"gear": 3}}
    assert batch.extra == dict.fromkeys(range(len(readings)), beside)


def test_session_describes_the_robot(tap, robot):
    """Names, type, cameras and rate come from the robot and its command."""
    session = SpoolReader(tap._client.stream_dir).description.session
    assert (session.robot_type, session.fps) == ("arm", 60.0)
    assert session.state_names == session.action_names == ("joint.pos",)
    assert session.cameras == {}
    assert session.host["cameras_not_recorded"] == dict.fromkeys(("front", "depth"), "video is off")
    assert session.host["robot.id"] == "left"


def test_bad_sample_is_a_gap_and_no_error(tap, robot, caplog):
    """A robot that reports words goes on; the log says so once, the frame is missing by name."""
    step(robot)
    robot.observation["joint.pos"] = "far"
    for _ in range(5):
        assert step(robot) == {"joint.pos": 2.0}
    robot.observation = None
    step(robot)
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "joint.pos is" in line] == [
        "backend: ValueError: joint.pos is of type str, not a number; LeRobot continues (logged once)"
    ]
    assert tap._client.logged == 7
    reader = SpoolReader(tap._client.stream_dir)
    gaps = [batch.gap for batch in iter(lambda: reader.read(Limits()), None) if batch.gap]
    assert gaps == ["joint.pos is of type str, not a number"] * 5 + ["the robot gave no observation"]


def test_errors_of_the_robot_are_its_own(tap, robot):
    """What LeRobot is to hear from its robot it hears, unchanged; nothing is recorded of a failed step."""
    robot.observation = {}
    robot.get_observation()
    with pytest.raises(KeyError):
        robot.send_action({})
    assert tap._client.logged == 0


def test_a_second_robot_is_named(tap, robot, capsys):
    """One process records one robot: another one that is connected is told at the end."""
    other = Robot()
    tap._robot_found(other, COMMAND)
    other.connect()
    step(other)
    assert tap._client.logged == 0
    tap.finish()
    assert (
        "backend: not recorded: Robot left: one process records only one robot\n" in capsys.readouterr().err
    )


def test_each_connection_is_a_session(tap, robot):
    """A robot that is connected again begins a new session; the earlier one is over."""
    step(robot)
    first = tap._client
    robot.disconnect()
    robot.connect()
    assert tap._client.stream_dir != first.stream_dir
    step(robot)
    assert (first.logged, tap._client.logged) == (1, 1)


def test_command_without_a_rate_is_not_recorded(tap, caplog):
    """Calibration is no teleoperation."""
    robot = Robot()
    tap._robot_found(robot, SimpleNamespace())
    robot.connect()
    assert step(robot) == {"joint.pos": 2.0}
    assert "rate (fps) is unknown" in caplog.text


def test_session_that_can_not_be_opened_stops_nothing(tap, caplog, monkeypatch):
    """A spool that can't be written is told, and LeRobot goes on."""
    monkeypatch.setenv("LEROBOT_BACKEND_SPOOL", "/proc/nowhere")
    robot = Robot()
    tap._robot_found(robot, COMMAND)
    robot.connect()
    assert step(robot) == {"joint.pos": 2.0}
    assert "LeRobot continues" in caplog.text


def test_pictures_are_recorded_with_their_own_times(tap, monkeypatch, capsys):
    """A picture that the robot gives twice is recorded once, with the time that its camera tells, at the
    frame that saw it first; the last lines count them, and name a camera that gave none."""
    monkeypatch.setattr(
        tap_module, "TelemetryClient", functools.partial(TelemetryClient, ship=False, min_free_bytes=0)
    )
    monkeypatch.setattr(tap_module, "FINISH_S", 60.0)
    monkeypatch.setattr(TelemetryClient, "drain", lambda *_: 0)
    robot = Robot()
    camera = SimpleNamespace(fps=30, latest_timestamp=None, latest_frame=None)
    robot.cameras = {"front": camera}
    tap._robot_found(robot, COMMAND)
    robot.connect()
    moments = [time.perf_counter() + k / 30 for k in range(3)]
    for k, moment in enumerate(moments):
        camera.latest_timestamp = moment
        camera.latest_frame = robot.observation["front"] = np.full((48, 64, 3), 50 * k, np.uint8)
        step(robot)
        step(robot)
    robot.disconnect()
    client = tap._client
    tap.finish()
    (segment,) = finished_segments(client.stream_dir)
    frames = segment.video.frames
    assert frames.frame_index == (0, 2, 4)
    assert frames.captured_us == tuple(client.clock.at_performance_us(moment) for moment in moments)
    said = capsys.readouterr().err
    front = "3 pictures recorded, 0 dropped, 0 of 1 segment on the server, the rest is safe in the spool"
    assert f"backend: front: {front}\n" in said
    assert "backend: not recorded: camera depth: the robot gave no picture for it\n" in said
    cameras = {"front": Camera(48, 64, 30.0), "depth": Camera(48, 64, channels=1)}
    assert read_stream(client.stream_dir).session.cameras == cameras


@pytest.mark.parametrize("settings", [{"dataset": SimpleNamespace()}, {}], ids=["dataset", "environment"])
def test_what_waits_for_its_dataset_is_kept_as_it_was(tap, monkeypatch, settings):
    """A robot may fill its arrays again before LeRobot adds the frame, or acts again; also if the settings
    around it say nothing of a dataset, as those of an environment."""
    robot = Robot()
    tap._robot_found(robot, SimpleNamespace(fps=60, **settings))
    robot.connect()
    tap._dataset.tapped = True
    pictures = []
    kept = tap._client.log
    monkeypatch.setattr(
        tap._client,
        "log",
        lambda observation, *more, **named: (
            pictures.append(int(observation["front"][0, 0, 0])) or kept(observation, *more, **named)
        ),
    )
    for k in range(3):
        robot.observation["front"][:] = k
        step(robot)
    robot.disconnect()
    assert pictures == [0, 1, 2]


def test_what_only_the_dataset_has_is_named(tap, monkeypatch, capsys):
    """A text, a picture of the command's own, vectors that it has made of the robot's: at the end, and in the
    session; not what is kept."""
    robot = Robot()
    tap._robot_found(robot, SimpleNamespace(fps=60, dataset=SimpleNamespace()))
    robot.connect()
    step(robot)
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["ee.x", "ee.y"]},
        "action": {"dtype": "float32", "shape": (1,), "names": {"motors": ["joint.pos"]}},
        "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": None},
        "observation.images.script": {"dtype": "image", "shape": (48, 64, 3), "names": None},
        "words": {"dtype": "language", "shape": (1,), "names": None},
        "instruction": {"dtype": "string", "shape": (1,), "names": None},
        "intervention": {"dtype": "bool", "shape": (1,), "names": None},
        "task_index": {"dtype": "int64", "shape": (1,), "names": None},
    }
    for _ in range(2):
        tap._dataset_added(features, {"instruction": "go", "intervention": np.array([True])}, "pick")
    step(robot)
    # Another dataset of the same recording.
    tap._dataset_added(
        {**features, "map": {"dtype": "float32", "shape": (64, 64), "names": None}}, {}, "pick"
    )
    told = [(event.feature, event.note) for event in recorded(tap).events if event.kind == "not_recorded"]
    assert told == [
        ("observation.state", "the command's dataset had [ee.x, ee.y], but [joint.pos] were kept"),
        ("observation.images.script", "a picture made by the command, not by the robot"),
        ("words", "its dtype is language; only numbers, booleans and text are kept"),
        ("map", "a value of map has 16384 bytes: field `shape`"),
    ]
    tap.finish()
    said = capsys.readouterr().err
    assert "backend: not recorded: words of the command's dataset: its dtype is language" in said
    assert said.count("of the command's dataset: ") == 4


def test_last_line_says_what_is_safe(tap, robot, capsys, caplog):
    """At the end people read how much is where, and what could not be recorded."""
    caplog.set_level(logging.ERROR)
    step(robot)
    robot.observation = {"joint.pos": "far"}
    step(robot)
    robot.disconnect()
    tap.finish()
    line, lost, *_ = capsys.readouterr().err.splitlines()
    assert line.startswith("backend: 2 frames logged, 0 acknowledged by the server; the rest is safe in ")
    assert lost == "backend: 1 could not be recorded, see the log"
