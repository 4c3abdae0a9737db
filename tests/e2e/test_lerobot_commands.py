"""Stock LeRobot commands, unmodified, on the virtual robot, against a real telemetry-service."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_robot_virtual.arm import NAMES, REST, VirtualArm
from teleop_testing.backends.database import Database
from teleop_testing.backends.processes import telemetry_process
from teleop_testing.waiting import PATIENCE_S

COMMANDS = Path(sys.executable).parent
ROBOT = ["--robot.type=virtual_so101_follower", "--robot.id=follower"]
TELEOP = ["--teleop.type=virtual_so101_leader", "--teleop.id=leader"]
# Runs lerobot-record as its console script does, with a scripted operator in the place of the keyboard.
SCRIPTED_RECORD = """
import sys, threading
import lerobot.scripts.lerobot_record as record

def press(events):
    events["rerecord_episode"] = True
    events["exit_early"] = True

def listener():
    events = {"exit_early": False, "rerecord_episode": False, "stop_recording": False}
    threading.Timer(0.5, press, [events]).start()
    return None, events

record.init_keyboard_listener = listener
sys.argv[0] = "lerobot-record"
record.main()
"""
# Runs lerobot-rollout on a policy that knows nothing, with an operator who at given steps of its loop pauses
# it, takes over, and gives back.
SCRIPTED_ROLLOUT = """
import sys
from torch import ones, zeros
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
import lerobot.rollout.strategies.dagger as dagger
import lerobot.scripts.lerobot_rollout as rollout
from lerobot_robot_virtual.arm import NAMES

folder = sys.argv[1]
joints = (len(NAMES),)
shapes = {"observation.state": joints, "observation.images.front": (3, 48, 64), "action": joints}
kinds = (FeatureType.STATE, FeatureType.VISUAL, FeatureType.ACTION)
state, front, action = (PolicyFeature(*each) for each in zip(kinds, shapes.values()))
small = {"dim_model": 16, "n_heads": 2, "dim_feedforward": 16}
small |= {"n_encoder_layers": 1, "n_vae_encoder_layers": 1}
config = ACTConfig(
    input_features={"observation.state": state, "observation.images.front": front},
    output_features={"action": action},
    chunk_size=8, n_action_steps=8, pretrained_backbone_weights=None, device="cpu", **small,
)
stats = {name: {"mean": zeros(shape), "std": ones(shape)} for name, shape in shapes.items()}
for part in (ACTPolicy(config), *make_pre_post_processors(config, dataset_stats=stats)):
    part.save_pretrained(folder)

class Operated(dagger.DAggerEvents):
    step = -1
    presses = {15: "pause_resume", 25: "correction", 40: "correction", 45: "pause_resume"}

    def consume_transition(self):
        self.step += 1
        if self.step in self.presses:
            self.request_transition(self.presses[self.step])
        if self.step == 60:
            self.stop_recording.set()
        return super().consume_transition()

dagger.DAggerEvents = Operated
dagger.create_key_listener = lambda *told, **more: None
sys.argv = ["lerobot-rollout", f"--policy.path={folder}", *sys.argv[2:]]
rollout.main()
"""


def teleoperate(url: str, seconds: float) -> list[str]:
    flags = [f"--teleop_time_s={seconds}", f"--backend_url={url}", "--robot_id=robot_A"]
    return [str(COMMANDS / "lerobot-teleoperate"), *ROBOT, *TELEOP, *flags]


def record_flags(url: str, root: Path, **options: object) -> list[str]:
    settings = {
        "repo_id": "someone/picking",
        "root": root,
        "single_task": "pick the cube",
        "fps": 30,
        "num_episodes": 2,
        "episode_time_s": 1,
        "reset_time_s": 0.5,
        "push_to_hub": "false",
    } | options
    flags = [f"--dataset.{name}={value}" for name, value in settings.items()]
    backend = [f"--backend_url={url}", "--robot_id=robot_A", "--play_sounds=false"]
    return [*ROBOT, *TELEOP, *flags, *backend]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


async def ended_session(database: Database) -> dict:
    """The only session, once the server has all of it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        rows = await database.fetch("SELECT * FROM teleop_session")
        if rows and rows[0]["status"] != "recording":
            assert len(rows) == 1
            return rows[0]
        assert time.monotonic() < deadline, f"no session ended: {rows}"
        await asyncio.sleep(0.05)


async def stored_frames(
    database: Database, first: int = 0, end: int = 2**62
) -> tuple[np.ndarray, np.ndarray]:
    """(frames, joints) state and action as stored; there is no frame missing in between."""
    rows = await database.fetch(
        "SELECT frame_index, state, action FROM teleop_frame WHERE frame_index >= $1 AND frame_index < $2"
        " ORDER BY frame_index",
        first,
        end,
    )
    assert [row["frame_index"] for row in rows] == list(range(first, first + len(rows)))
    return [np.array([row[part] for row in rows], np.float32) for part in ("state", "action")]


def assert_follower_followed(states: np.ndarray, actions: np.ndarray) -> None:
    """Each state is where the virtual arm goes by the action before: no frame is lost, doubled or shifted."""
    arm = VirtualArm()
    for state, action in zip(states, actions, strict=True):
        np.testing.assert_allclose(state, [arm.positions[name] for name in NAMES], atol=1e-3)
        arm.command(dict(zip(NAMES, action.tolist(), strict=True)))


async def test_teleoperate_is_stored_frame_by_frame(service, database, typed, output):
    """The command as people type it: every sample of its loop is in the database, in order."""
    assert typed(*teleoperate(f"ws://{service.address}", 3)) == 0
    session = await ended_session(database)
    states, actions = await stored_frames(database)
    assert f"backend: {len(states)} frames logged" in output()
    assert session["status"] == "complete"
    assert session["robot_id"] == "robot_A"
    assert session["robot_type"] == "virtual_so101_follower"
    assert session["fps"] == 60
    assert tuple(session["state_names"]) == tuple(session["action_names"]) == NAMES
    assert session["next_frame_index"] == len(states) > 0
    np.testing.assert_allclose(states[0], list(REST.values()), atol=1e-3)
    assert_follower_followed(states, actions)


async def test_recorded_dataset_and_database_hold_the_same(service, database, typed, output, tmp_path):
    """Episodes and frames in the database are those that LeRobot wrote, float by float."""
    root = tmp_path / "dataset"
    command = [str(COMMANDS / "lerobot-record"), *record_flags(f"ws://{service.address}", root)]
    assert typed(*command) == 0, output()
    session = await ended_session(database)
    assert (session["status"], session["fps"], session["task"]) == ("complete", 30, "pick the cube")
    written = pq.read_table(root / "data").to_pydict()
    episodes = await database.fetch("SELECT * FROM episode ORDER BY episode_index")
    assert [episode["episode_index"] for episode in episodes] == [0, 1]
    for episode in episodes:
        assert (episode["task"], episode["outcome"]) == ("pick the cube", None)
        mine = [n for n, index in enumerate(written["episode_index"]) if index == episode["episode_index"]]
        states, actions = await stored_frames(database, episode["start_frame"], episode["end_frame"])
        np.testing.assert_array_equal(
            states, np.array([written["observation.state"][n] for n in mine], np.float32)
        )
        np.testing.assert_array_equal(actions, np.array([written["action"][n] for n in mine], np.float32))
    # The phase in which the scene is reset is kept, too, and belongs to no episode.
    assert episodes[0]["end_frame"] < episodes[1]["start_frame"]


async def test_episode_recorded_again_is_kept_as_discarded(service, database, start, output, tmp_path):
    """What the operator throws away is marked, and the episodes that count are those of the dataset."""
    root = tmp_path / "dataset"
    flags = record_flags(f"ws://{service.address}", root, num_episodes=1)
    assert start(sys.executable, "-c", SCRIPTED_RECORD, *flags).wait(PATIENCE_S) == 0, output()
    await ended_session(database)
    episodes = await database.fetch("SELECT * FROM episode ORDER BY episode_index")
    assert [(episode["outcome"], episode["note"]) for episode in episodes] == [
        ("discarded", "recorded again"),
        (None, None),
    ]
    kept = episodes[1]["end_frame"] - episodes[1]["start_frame"]
    assert pq.read_table(root / "data").num_rows == kept


async def test_rollout_is_recorded_with_its_corrections(
    service, database, start, output, tmp_path, environment
):
    """A policy acts, a person pauses it and takes over: every step is recorded, and the rows of LeRobot's
    dataset are those of the episode outside of its pauses, float by float, with what marks a correction."""
    root = tmp_path / "dataset"
    flags = {
        "strategy.type": "dagger",
        "strategy.record_autonomous": "true",
        "strategy.smooth_handover": "false",
        "return_to_initial_position": "false",
        "fps": 30,
        "robot.cameras": "{front: {type: virtual, width: 64, height: 48, fps: 30}}",
        "dataset.repo_id": "someone/rollout_picking",
        "dataset.root": root,
        "dataset.single_task": "pick the cube",
        "dataset.push_to_hub": "false",
        "play_sounds": "false",
        "backend_url": f"ws://{service.address}",
        "robot_id": "robot_A",
    }
    words = [*ROBOT, *TELEOP, *(f"--{name}={value}" for name, value in flags.items())]
    environment["LEROBOT_BACKEND_VIDEO"] = "off"
    command = start(sys.executable, "-c", SCRIPTED_ROLLOUT, str(tmp_path / "policy"), *words)
    assert command.wait(PATIENCE_S) == 0, output()
    session = await ended_session(database)
    assert (session["status"], session["fps"], session["task"]) == ("complete", 30, "pick the cube")
    [episode] = await database.fetch("SELECT start_frame, end_frame, outcome FROM episode")
    assert tuple(episode.values()) == (0, 61, None)
    pauses = await database.fetch("SELECT first_frame, end_frame FROM episode_pause ORDER BY first_frame")
    assert [tuple(pause.values()) for pause in pauses] == [(15, 25), (40, 45)]
    added = [*range(15), *range(25, 40), *range(45, 61)]
    written = pq.read_table(root / "data").to_pydict()
    states, actions = await stored_frames(database)
    np.testing.assert_array_equal(states[added], np.array(written["observation.state"], np.float32))
    np.testing.assert_array_equal(actions[added], np.array(written["action"], np.float32))
    packed = await database.fetch("SELECT columns FROM teleop_frame ORDER BY frame_index")
    corrected = [bool(packed[frame]["columns"][-1]) for frame in added]
    assert corrected == written["intervention"] == [25 <= frame < 40 for frame in added]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
async def test_stopped_recording_ends_in_order(service, database, start, output, tmp_path, number):
    """A closed terminal or a stopped service costs the episode that was being recorded, and nothing else."""
    root = tmp_path / "dataset"
    flags = record_flags(f"ws://{service.address}", root, episode_time_s=4, num_episodes=50)
    process = start(str(COMMANDS / "lerobot-record"), *flags)
    wait_for(lambda: "Recording episode 1" in output(), "the second episode never began")
    await asyncio.sleep(0.5)
    process.send_signal(number)
    process.wait(PATIENCE_S)
    session = await ended_session(database)
    assert session["status"] == "complete"
    saved, stopped = await database.fetch("SELECT * FROM episode ORDER BY episode_index")
    assert (saved["outcome"], stopped["outcome"]) == (None, "discarded")
    written = pq.read_table(root / "data")
    assert written.num_rows == saved["end_frame"] - saved["start_frame"]


async def test_killed_teleoperation_loses_nothing(service, database, start, output, tmp_path):
    """kill -9 of the command: the shipper brings what was logged, and the session is told as interrupted."""
    process = start(*teleoperate(f"ws://{service.address}", 600))
    wait_for(lambda: output().count("Teleop loop time") > 60, "the loop never ran")
    process.kill()
    process.wait(PATIENCE_S)
    loops = output().count("Teleop loop time")
    session = await ended_session(database)
    assert session["status"] == "interrupted"
    states, actions = await stored_frames(database)
    assert len(states) >= loops
    assert_follower_followed(states, actions)


async def test_recording_without_a_server_is_delivered_later(database_url, database, start, output, tmp_path):
    """No server: LeRobot runs as ever, says where the samples are, and they arrive once there is one."""
    process = telemetry_process(database_url)
    assert start(*teleoperate(f"ws://{process.address}", 2)).wait(PATIENCE_S) == 0
    told = re.search(
        r"backend: (\d+) frames logged, 0 acknowledged .*\n"
        r"backend: the rest is safe on this disk, and process \d+ keeps trying; .* (\S+)\n",
        output(),
    )
    assert told, output()
    assert told[2].startswith(str(tmp_path / "spool" / "robot_A"))
    with process:
        await ended_session(database)
        assert len((await stored_frames(database))[0]) == int(told[1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend_url=ws://localhost:8000"], "error: --backend_url needs --robot_id"),
        (["--backend_url=ws://localhost:8000", "--robot_id=../x"], "error: --robot_id '../x' is not "),
        (["--backend_url=localhost", "--robot_id=robot_A"], "error: --backend_url: "),
    ],
)
def test_mistakes_end_the_command_before_the_robot_moves(start, output, flags, message):
    """One line that names the flag, exit code 2, and LeRobot never starts."""
    command = [str(COMMANDS / "lerobot-teleoperate"), *ROBOT, *TELEOP, "--teleop_time_s=1", *flags]
    assert start(*command).wait(PATIENCE_S) == 2
    lines = [line for line in output().splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert "Teleop loop time" not in output()


def test_without_a_url_nothing_is_recorded(start, output, tmp_path):
    """Installed and not asked for, the plugin is not noticed."""
    command = [str(COMMANDS / "lerobot-teleoperate"), *ROBOT, *TELEOP, "--teleop_time_s=1"]
    assert start(*command).wait(PATIENCE_S) == 0
    assert "backend" not in output()
    assert not (tmp_path / "spool").exists()
