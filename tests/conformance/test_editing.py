"""LeRobot's tools edit, merge and train on an export."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def home(tmp_path):
    """Where the edited datasets go."""
    return tmp_path


def open_dataset(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(f"lab/{root.name}", root=root)


def test_delete_episodes(lerobot, dataset, home):
    """What is left is whole, with statistics of its own."""
    words = ("--repo_id", "lab/pick", "--root", str(dataset), "--new_repo_id", "lab/less")
    words += ("--new_root", str(home / "less"), "--operation.type", "delete_episodes")
    lerobot("lerobot-edit-dataset", *words, "--operation.episode_indices", "[0]")
    edited = open_dataset(home / "less")
    assert (edited.num_episodes, len(edited)) == (2, 60 + 115)
    assert edited[0]["task"] == "place"
    # As LeRobot does with what is not its own; meta/backend.json of the export still has it.
    assert "backend/outcome" not in edited.meta.episodes.features
    values = np.array(edited.hf_dataset.with_format("numpy")["action"][:])
    np.testing.assert_allclose(edited.meta.stats["action"]["mean"], values.mean(axis=0), rtol=1e-4, atol=1e-4)
    assert edited.meta.stats["action"]["count"].tolist() == [175]


def merge(lerobot, target, *sources):
    words = ("--new_repo_id", f"lab/{target.name}", "--new_root", str(target), "--operation.type", "merge")
    words += ("--operation.repo_ids", str([f"lab/{source.name}" for source in sources]))
    lerobot("lerobot-edit-dataset", *words, "--operation.roots", str([str(source) for source in sources]))
    return open_dataset(target)


def test_merge_of_two_exports(lerobot, exporter, dataset, home):
    """Frames and tasks of both, one after the other."""
    other = exporter.record(80, [(0, 40, "place", None), (40, 80, "fold", None)])
    merged = merge(lerobot, home / "both", dataset, exporter.export(other, "second"))
    assert (merged.num_episodes, len(merged)) == (5, 265 + 80)
    assert list(merged.meta.tasks.index) == ["pick", "place", "fold"]
    np.testing.assert_array_equal(merged[265]["action"].numpy(), exporter.frame(other, 0)["action"])
    assert merged[265]["task"] == "place"
    assert merged[344]["task"] == "fold"
    assert merged.meta.episodes["backend/operator"][:4] == ["kim", "lee", "kim", None]


def recorded_by_lerobot(root, features):
    """A dataset of one episode as lerobot-record leaves it."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    own = LeRobotDataset.create(
        "lab/own", 60, features, root=root, robot_type="so101_follower", use_videos=False
    )
    for number in range(30):
        vectors = {key: np.full(5, number, np.float32) for key in ("action", "observation.state")}
        own.add_frame({**vectors, "task": "pick"})
    own.save_episode()
    own.finalize()
    return root


def test_merge_with_a_dataset_that_lerobot_recorded(lerobot, exporter, session, dataset, home):
    """Without the column of capture times an export has exactly the features that LeRobot records."""
    features = {key: open_dataset(dataset).features[key] for key in ("action", "observation.state")}
    own = recorded_by_lerobot(home / "own", features)
    plain = exporter.export(session, "plain", include_capture_time=False)
    merged = merge(lerobot, home / "mixed", plain, own)
    assert (merged.num_episodes, len(merged)) == (4, 265 + 30)
    assert merged[265]["action"].tolist() == [0.0] * 5
    assert merged[264]["task"] == "pick"


def test_column_of_capture_times_can_be_removed(lerobot, dataset, home):
    """By LeRobot itself, for exports that have it already."""
    words = ("--repo_id", "lab/pick", "--root", str(dataset), "--new_repo_id", "lab/plain")
    words += ("--new_root", str(home / "plain"), "--operation.type", "remove_feature")
    lerobot("lerobot-edit-dataset", *words, "--operation.feature_names", "['capture.time_ns']")
    assert "capture.time_ns" not in open_dataset(home / "plain").features


def test_act_trains(lerobot, dataset, home):
    """Two steps on the CPU, on the episodes that somebody judged a success.

    ACT wants an image or the state of the environment. A recording of joints has neither, so the state
    stands in for it: LeRobot's own add_features gives it that name too.
    """
    from lerobot.datasets.dataset_tools import add_features

    opened = open_dataset(shutil.copytree(dataset, home / "pick"))
    chosen = opened.meta.filter_episodes(lambda episode: episode["backend/success"])
    assert chosen == [0]
    state = np.array(opened.hf_dataset.with_format("numpy")["observation.state"][:])
    feature = dict(opened.features["observation.state"])
    add_features(
        opened,
        {"observation.environment_state": (state, feature)},
        output_dir=home / "trainable",
        repo_id="lab/trainable",
    )
    small = ("--policy.chunk_size=8", "--policy.n_action_steps=8", "--policy.dim_model=32")
    small += ("--policy.n_heads=2", "--policy.dim_feedforward=32", "--batch_size=4", "--num_workers=0")
    printed = lerobot(
        "lerobot-train",
        *("--dataset.repo_id=lab/trainable", f"--dataset.root={home / 'trainable'}"),
        f"--dataset.episodes={chosen}",
        *("--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false", *small),
        *("--steps=2", "--log_freq=1", "--save_checkpoint=false", "--wandb.enable=false"),
        f"--output_dir={home / 'training'}",
    )
    assert "End of training" in printed
    assert "step:2" in printed


def test_provenance_survives_for_readers(dataset, session):
    """meta/backend.json names the recorded frames of each episode, and LeRobot does not mind it."""
    origins = json.loads((dataset / "meta/backend.json").read_text())["episodes"]
    assert [(each["session_id"], each["first_frame"], each["end_frame"]) for each in origins] == [
        (session, 0, 90),
        (session, 125, 185),
        (session, 185, 300),
    ]
    assert pq.read_metadata(dataset / "data/chunk-000/file-000.parquet").num_row_groups == 3
