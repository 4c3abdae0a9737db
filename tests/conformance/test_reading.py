"""LeRobot reads an export."""

import numpy as np
import pytest

# As in EPISODES of conftest.py, the discarded one apart.
KEPT = [(0, 90, "pick"), (125, 185, "place"), (185, 300, "pick")]
FRAMES = sum(end - first for first, end, _ in KEPT)


@pytest.fixture(scope="module")
def opened(dataset):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("lab/pick", root=dataset)


def same_frame(item, recorded):
    for key, value in recorded.items():
        np.testing.assert_array_equal(item[key].numpy(), value)


def test_dataset_opens(opened):
    """Episodes, frames, tasks and names are the recorded ones."""
    assert (opened.num_episodes, opened.num_frames, opened.fps) == (len(KEPT), FRAMES, 60)
    assert opened.meta.robot_type == "so101_follower"
    assert list(opened.meta.tasks.index) == ["pick", "place"]
    assert opened.features["action"]["names"][0] == "shoulder_pan.pos"
    assert [each["length"] for each in opened.meta.episodes] == [end - first for first, end, _ in KEPT]


@pytest.mark.parametrize("episode", range(len(KEPT)))
def test_first_and_last_frame_of_each_episode(opened, exporter, session, episode):
    """State, action, capture time and task, as the table has them."""
    first, end, task = KEPT[episode]
    begin, stop = (opened.meta.episodes[episode][f"dataset_{name}_index"] for name in ("from", "to"))
    for row, frame in ((begin, first), (stop - 1, end - 1)):
        item = opened[row]
        same_frame(item, exporter.frame(session, frame))
        assert item["task"] == task
        assert item["episode_index"] == episode
        assert item["timestamp"].item() == np.float32((frame - first) / 60)


def test_delta_timestamps(dataset, exporter, session):
    """The frames around one frame, padded where its episode ends."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [0, 1 / 60, 2 / 60], "observation.state": [-1 / 60, 0]}
    opened = LeRobotDataset("lab/pick", root=dataset, delta_timestamps=deltas)
    item = opened[90 + 5]
    actions = [exporter.frame(session, 125 + 5 + step)["action"] for step in range(3)]
    np.testing.assert_array_equal(item["action"].numpy(), np.stack(actions))
    last = opened[90 + 59]
    assert last["action_is_pad"].tolist() == [False, True, True]
    np.testing.assert_array_equal(last["action"][0].numpy(), exporter.frame(session, 184)["action"])


@pytest.mark.parametrize(
    ("wanted", "episodes"),
    [
        (lambda episode: episode["backend/success"], [0]),
        (lambda episode: episode["backend/outcome"] == "failure", [1]),
        (lambda episode: episode["backend/operator"] == "kim", [0, 2]),
        (lambda episode: (episode["backend/quality"] or 0) >= 2, [0, 1]),
        (lambda episode: "day" in episode["backend/tags"], [0]),
    ],
)
def test_episodes_are_filtered_by_what_was_judged(dataset, wanted, episodes):
    """By LeRobot's own argument."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    opened = LeRobotDataset("lab/pick", root=dataset, episode_filter=wanted)
    assert opened.episodes == episodes
    assert len(opened) == sum(KEPT[each][1] - KEPT[each][0] for each in episodes)
    assert opened[0]["episode_index"] == episodes[0]


def test_episodes_can_be_chosen(dataset):
    """Reading one episode reads no other."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    opened = LeRobotDataset("lab/pick", root=dataset, episodes=[1])
    assert len(opened) == 60
    assert {opened[row]["task"] for row in (0, 59)} == {"place"}


@pytest.mark.filterwarnings("ignore")
def test_streaming(dataset):
    """StreamingLeRobotDataset yields every frame once."""
    from lerobot.datasets.streaming_dataset import StreamingLeRobotDataset

    streamed = StreamingLeRobotDataset("lab/pick", root=dataset, shuffle=False, max_num_shards=1)
    assert sorted(int(item["index"]) for item in streamed) == list(range(FRAMES))


def test_statistics_are_what_lerobot_would_compute(dataset, opened):
    """Mean, deviation and bounds agree with LeRobot's own; its quantiles are estimates, ours are exact."""
    from lerobot.datasets.compute_stats import get_feature_stats

    for key in ("action", "observation.state"):
        values = np.array(opened.hf_dataset.with_format("numpy")[key][:])
        theirs, ours = get_feature_stats(values, axis=0, keepdims=False), opened.meta.stats[key]
        assert set(theirs) == set(ours)
        for name in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5)
        for name, level in {"q01": 0.01, "q50": 0.5, "q99": 0.99}.items():
            np.testing.assert_array_equal(ours[name], np.quantile(values.astype(float), level, axis=0))


def test_files_are_laid_out_like_lerobots_own(dataset, tmp_path, opened):
    """Same files, columns, types and footers as those of a dataset that LeRobot wrote with these features."""
    import pyarrow.parquet as pq
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {key: dict(opened.features[key]) for key in ("action", "observation.state", "capture.time_ns")}
    own = LeRobotDataset.create(
        "lab/own", 60, features, root=tmp_path / "own", robot_type="so101_follower", use_videos=False
    )
    for row in (opened[0], opened[1]):
        frame = {key: row[key].numpy() for key in ("action", "observation.state")}
        own.add_frame({**frame, "capture.time_ns": row["capture.time_ns"].numpy().reshape(1), "task": "pick"})
    own.save_episode()
    own.finalize()
    files = {path.relative_to(own.root) for path in own.root.rglob("*") if path.is_file()}
    ours = {path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file()}
    assert {str(path) for path in ours - files} == {"meta/backend.json"}
    assert files <= ours
    for path in files:
        if path.suffix == ".parquet":
            schema = pq.read_schema(dataset / path)
            # What we tell of episodes beside what LeRobot does is named as ours.
            lerobots = [each for each in schema if not each.name.startswith("backend/")]
            assert lerobots == list(pq.read_schema(own.root / path)), path
    assert pq.read_schema(dataset / "data/chunk-000/file-000.parquet").metadata.keys() == {b"huggingface"}
