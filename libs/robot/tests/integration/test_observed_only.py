"""A robot that is led by hand, or only watched: what was observed is kept, though no action was sent."""

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.lerobot import tap as tap_module
from lerobot_robot_backend.lerobot.options import Request
from lerobot_robot_backend.lerobot.tap import Tap
from lerobot_robot_backend.shipping.reader import SpoolReader
from teleop_schema.limits import Limits

FPS = 30
STEP_NS = 10**9 // FPS


class Arm:
    """An arm of one joint that is wherever the test puts it, and observed at 30 Hz."""

    name = "arm"
    id = "left"
    observation_features = action_features = {"joint.pos": float}  # noqa: RUF012

    def __init__(self) -> None:
        self.position = 0.0
        self.now_ns = 10**12

    def connect(self) -> None:
        pass

    def get_observation(self) -> dict[str, float]:
        self.position += 1.0
        return {"joint.pos": self.position}

    def send_action(self, action):
        return action

    def disconnect(self) -> None:
        pass


@pytest.fixture
def arm(tmp_path, monkeypatch) -> Arm:
    """Connected, under a tap; its clock goes one step of the loop with each observation."""
    monkeypatch.setenv("LEROBOT_BACKEND_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(
        tap_module, "TelemetryClient", functools.partial(TelemetryClient, ship=False, min_free_bytes=0)
    )
    monkeypatch.setattr(tap_module, "FINISH_S", 0.0)
    for name in ("add_frame", "save_episode", "clear_episode_buffer", "finalize"):
        monkeypatch.setattr(LeRobotDataset, name, getattr(LeRobotDataset, name))  # put back at the end
    arm = Arm()
    arm.tap = Tap(Request({"backend_url": "ws://localhost:8000", "robot_id": "robot_A"}, by_flag=True))
    arm.tap._robot_found(arm, SimpleNamespace(fps=FPS))
    arm.connect()

    def tick() -> int:
        arm.now_ns += STEP_NS
        return arm.now_ns

    monkeypatch.setattr(tap_module.time, "monotonic_ns", tick)
    return arm


def recorded(arm: Arm) -> list[tuple]:
    """(state, action, extra) of each frame of the session, which ends here; a gap is its reason."""
    arm.disconnect()
    reader = SpoolReader(arm.tap._client.stream_dir)
    told: list[tuple] = []
    for batch in iter(lambda: reader.read(Limits()), None):
        if batch.gap is not None:
            told += [batch.gap] * batch.count
            continue
        for offset, values in enumerate(
            zip(np.frombuffer(batch.state, "<f4"), np.frombuffer(batch.action, "<f4"), strict=True)
        ):
            told.append((*map(float, values), batch.extra.get(offset)))
    return told


def test_frames_of_an_arm_led_by_hand_are_those_of_the_dataset(arm, tmp_path):
    """The script's action is where the arm was led to; the session has it, and that none was sent."""
    dataset = create_dataset(tmp_path)
    for number in range(6):
        lead(arm, dataset)
        if number == 2:
            dataset.save_episode()
    dataset.save_episode()
    dataset.finalize()
    events = arm.tap._client
    assert recorded(arm) == [
        (number + 1.0, number + 1.5, {"sent_action": None}) for number in range(dataset.meta.total_frames)
    ]
    assert [frame for _, frame, _ in told_episodes(events)] == [*(0, 3), *(3, 6)]


def test_a_reset_by_hand_is_told_while_it_lasts(arm, tmp_path):
    """Nobody acts in it, and LeRobot saves the episode only after it: a recorder may be killed before."""
    dataset = create_dataset(tmp_path)
    for _ in range(3):
        lead(arm, dataset)
    for _ in range(5):
        arm.get_observation()
    begun = [("episode_start", 0, None), ("episode_pause", 3, None)]
    client = arm.tap._client
    assert client.logged > 3
    assert told_episodes(client) == begun
    dataset.save_episode()
    lead(arm, dataset)
    arm.disconnect()
    assert told_episodes(client)[:3] == [*begun, ("episode_end", 3, None)]


def create_dataset(folder) -> LeRobotDataset:
    features = {
        name: {"dtype": "float32", "shape": (1,), "names": ["joint.pos"]}
        for name in ("observation.state", "action")
    }
    return LeRobotDataset.create("a/b", FPS, features, root=folder / "dataset", use_videos=False)


def lead(arm: Arm, dataset: LeRobotDataset) -> None:
    """One step: the dataset's action is half a unit ahead."""
    position = arm.get_observation()["joint.pos"]
    frame = {"observation.state": np.float32([position]), "action": np.float32([position + 0.5])}
    dataset.add_frame(frame | {"task": "lead"})


def told_episodes(client: TelemetryClient) -> list[tuple]:
    """What was told of episodes so far: kind, frame_index and end_frame."""
    reader = SpoolReader(client.stream_dir)
    told = [event for batch in iter(lambda: reader.read(Limits()), None) for event in batch.events]
    told += reader.end.events if reader.end is not None else ()
    return [(each.kind, each.frame_index, each.end_frame) for each in told if each.episode_index is not None]


def test_watched_robot_is_recorded_without_actions(arm):
    """Every observation is a frame; a value that there is not is NaN."""
    for _ in range(5):
        arm.get_observation()
    frames = recorded(arm)
    assert [state for state, _, _ in frames] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert all(math.isnan(action) and extra == {"sent_action": None} for _, action, extra in frames)


def test_looking_twice_before_acting_makes_no_frame(arm):
    """Only a second observation in a row that nothing becomes of is one of a robot that is watched."""
    for number in range(3):
        arm.get_observation()
        arm.get_observation()
        arm.send_action({"joint.pos": float(number)})
    for _ in range(3):
        arm.get_observation()
    arm.send_action({"joint.pos": 3.0})
    arm.get_observation()
    states = [state for state, _, _ in recorded(arm)]
    assert states == [2.0, 4.0, 6.0, 7.0, 8.0, 9.0]


def test_loop_that_waits_for_nothing_is_recorded_at_its_declared_rate(arm):
    """LeRobot's recorder runs as fast as it can while a scene is reset without a teleoperator."""
    real = arm.get_observation
    for _ in range(40):
        arm.now_ns -= STEP_NS - STEP_NS // 8
        real()
    assert 8 <= len(recorded(arm)) <= 11


def test_action_of_another_kind_does_not_cost_the_observation(arm, caplog):
    """Said once; the frame has no action."""
    for _ in range(2):
        arm.get_observation()
        arm.send_action([1.0])
    frames = recorded(arm)
    assert [state for state, _, _ in frames] == [1.0, 2.0]
    assert all(math.isnan(action) for _, action, _ in frames)
    assert caplog.text.count("the action is not a dictionary of names and values") == 1
