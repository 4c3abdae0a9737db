"""LeRobot's tools edit, merge and train on an export with video; the pictures stay with their rows."""

import json

import numpy as np
import pytest
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import read_frame_counter, render

CAMERAS = ("front", "wrist")
HEIGHT, WIDTH = 48, 64
EPISODES = [(0, 60, "pick", None), (60, 140, "place", None), (140, 200, "pick", None)]
# Rows of the episodes, at 30 per second, and the first picture of each.
LENGTHS, FIRST_PICTURES = [30, 40, 30], [0, 30, 70]


def open_dataset(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(f"lab/{root.name}", root=root)


def counters(dataset, camera="front"):
    """The numbers drawn into the pictures of all rows."""
    images = (dataset[row][f"observation.images.{camera}"] for row in range(len(dataset)))
    return [
        read_frame_counter((image.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8))
        for image in images
    ]


def pictures(*episodes):
    """The pictures of those episodes."""
    return [FIRST_PICTURES[each] + number for each in episodes for number in range(LENGTHS[each])]


@pytest.fixture(scope="module")
def filmed(exporter):
    """A session with two cameras."""
    session = exporter.record(200, EPISODES)
    for camera in CAMERAS:
        exporter.film(session, 200, camera, segment=40, height=HEIGHT, width=WIDTH)
    return session


@pytest.fixture(scope="module")
def dataset(exporter, filmed):
    """Its export, with the columns that lerobot-record gives to such a robot."""
    return exporter.export(filmed, "filmed-plain", include_capture_time=False)


def edit(lerobot, root, target, operation, *words):
    """Run lerobot-edit-dataset on the dataset in `root`."""
    about = ("--repo_id", f"lab/{root.name}", "--root", str(root), "--new_repo_id", f"lab/{target.name}")
    about += ("--new_root", str(target), "--operation.type", operation)
    lerobot("lerobot-edit-dataset", *about, *words)


def test_delete_episodes(lerobot, dataset, tmp_path):
    """What is left has its pictures, and statistics of them."""
    edit(lerobot, dataset, tmp_path / "less", "delete_episodes", "--operation.episode_indices", "[0]")
    edited = open_dataset(tmp_path / "less")
    assert counters(edited) == counters(edited, "wrist") == pictures(1, 2)
    assert edited.meta.stats["observation.images.front"]["count"].tolist() == [40 + 30]


def test_split(lerobot, dataset, tmp_path):
    """Each part has its own episodes."""
    edit(lerobot, dataset, tmp_path, "split", "--operation.splits", '{"train": [0, 2], "val": [1]}')
    parts = {path.name.removeprefix("filmed-plain_"): open_dataset(path) for path in tmp_path.iterdir()}
    assert {name: counters(part) for name, part in parts.items()} == {
        "train": pictures(0, 2),
        "val": pictures(1),
    }


def recorded_by_lerobot(root, like, first):
    """A dataset of one episode of 30 rows as lerobot-record leaves it, its video in H.264."""
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    cameras = [f"observation.images.{camera}" for camera in CAMERAS]
    features = {key: dict(like.features[key]) for key in ("action", "observation.state")}
    for key in cameras:
        names = ["height", "width", "channels"]
        features[key] = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": names}
    encoder = RGBEncoderConfig(vcodec="h264", crf=18)
    own = LeRobotDataset.create(
        f"lab/{root.name}", 30, features, root=root, robot_type="so101_follower", rgb_encoder=encoder
    )
    for number in range(30):
        frame = {key: np.full(5, number, np.float32) for key in ("action", "observation.state")}
        picture = render("front", REST, first + number, height=HEIGHT, width=WIDTH)
        own.add_frame({**frame, **dict.fromkeys(cameras, picture), "task": "pick"})
    own.save_episode()
    own.finalize()
    return root


@pytest.mark.parametrize("first", ["export", "lerobot"])
def test_merge_with_a_dataset_that_lerobot_recorded(lerobot, dataset, tmp_path, first):
    """In either order: the features are the same, and every row keeps its pictures."""
    like = open_dataset(dataset)
    own = recorded_by_lerobot(tmp_path / "own", like, 1000)
    theirs = open_dataset(own)
    assert list(theirs.features) == list(like.features)
    sources = [dataset, own] if first == "export" else [own, dataset]
    words = ("--new_repo_id", "lab/mixed", "--new_root", str(tmp_path / "mixed"), "--operation.type", "merge")
    words += ("--operation.repo_ids", str([f"lab/{source.name}" for source in sources]))
    lerobot("lerobot-edit-dataset", *words, "--operation.roots", str([str(source) for source in sources]))
    merged = open_dataset(tmp_path / "mixed")
    parts = [pictures(0, 1, 2), list(range(1000, 1030))]
    expected = [*parts[0], *parts[1]] if first == "export" else [*parts[1], *parts[0]]
    assert counters(merged) == counters(merged, "wrist") == expected


def test_exports_merge_with_each_other(lerobot, exporter, filmed, tmp_path):
    """With the columns of ages, and whether or not samples were left out."""
    slow = exporter.record(50, [], fps=30.0)
    for camera in CAMERAS:
        exporter.film(slow, 50, camera, loop_fps=30.0, height=HEIGHT, width=WIDTH)
    sources = [exporter.export(filmed, "fast"), exporter.export(slow, "slow")]
    words = ("--new_repo_id", "lab/both", "--new_root", str(tmp_path / "both"), "--operation.type", "merge")
    words += ("--operation.repo_ids", str([f"lab/{source.name}" for source in sources]))
    lerobot("lerobot-edit-dataset", *words, "--operation.roots", str([str(source) for source in sources]))
    merged = open_dataset(tmp_path / "both")
    assert counters(merged) == [*pictures(0, 1, 2), *range(50)]


@pytest.mark.long("a policy is trained")
def test_act_trains_on_pictures(lerobot, dataset, tmp_path):
    """Two steps on the CPU, with the export as it is."""
    small = ("--policy.chunk_size=8", "--policy.n_action_steps=8", "--policy.dim_model=32")
    small += ("--policy.n_heads=2", "--policy.dim_feedforward=32", "--batch_size=4", "--num_workers=0")
    small += ("--policy.pretrained_backbone_weights=null",)
    printed = lerobot(
        "lerobot-train",
        *(f"--dataset.repo_id=lab/{dataset.name}", f"--dataset.root={dataset}"),
        *("--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false", *small),
        *("--steps=2", "--log_freq=1", "--save_checkpoint=false", "--wandb.enable=false"),
        f"--output_dir={tmp_path / 'training'}",
    )
    assert "End of training" in printed
    assert "step:2" in printed


def test_info_is_what_lerobot_writes(dataset, tmp_path):
    """The features of a camera, but for the settings of an encoder, which nobody knows of a recording."""
    ours = json.loads((dataset / "meta/info.json").read_text())
    own = recorded_by_lerobot(tmp_path / "own", open_dataset(dataset), 0)
    theirs = json.loads((own / "meta/info.json").read_text())
    assert ours.keys() == theirs.keys()
    assert ours["video_path"] == theirs["video_path"]
    for key, feature in theirs["features"].items():
        info = feature.pop("info", None)
        ours_info = ours["features"][key].pop("info", None)
        assert ours["features"][key] == feature
        if info is not None:
            settings = ("g", "crf", "preset", "fast_decode", "extra_options", "video_backend")
            assert ours_info == {k: v for k, v in info.items() if k.removeprefix("video.") not in settings}
