"""What is said of episodes, read by the real LeRobot as what its own `lerobot-annotate` writes."""

import datasets
import numpy as np
import pyarrow as pa
import pytest
from lerobot.datasets.language import language_events_column_feature, language_persistent_column_feature
from lerobot.datasets.language_render import active_at, emitted_at
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from teleop_dataset.v3.info import recorded_features
from teleop_dataset.v3.language import DESCRIBED, EVENTS, FEATURES, PERSISTENT, Said, language_columns
from teleop_dataset.v3.layout import LEROBOTS_LIMITS
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.writer import DatasetWriter

FPS = 10
LENGTHS = [20, 10]
SAID = [
    [
        Said(1.0, "subtask", "place the cube"),
        Said(0.0, "subtask", "grasp the cube"),
        Said(0.52, "interjection", "not that one", role="user"),
    ],
    [],
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two episodes, of which the first has words."""
    root = tmp_path_factory.mktemp("language") / "spoken"
    root.mkdir()
    features = recorded_features(["a"], ["a"], fps=FPS, capture_time=False, added=FEATURES)
    total = sum(LENGTHS)
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(total, dtype=np.float32)), 1)
    frames = pa.table({"state": values, "action": values})
    spoken = [language_columns(said, length, FPS) for said, length in zip(SAID, LENGTHS, strict=True)]
    for key in FEATURES:
        frames = frames.append_column(key, pa.concat_arrays([each[key] for each in spoken]))
    with DatasetWriter(root, features, fps=FPS, limits=LEROBOTS_LIMITS) as writer:
        writer.add(frames, LENGTHS, [[TaskRows("pick", length)] for length in LENGTHS], {}, {})
        writer.close_data()
    writer.finish(
        writer.recorded.finish(root, lambda done, total: None),
        {},
        robot_type="so101",
        provenance={},
        splits={"train": (0, 2)},
    )
    return LeRobotDataset("lab/spoken", root=root)


def test_footers_describe_them_as_lerobot_does():
    """For `datasets`, and for the viewer of the Hub."""
    ours = datasets.Features.from_dict(DESCRIBED)
    assert ours[PERSISTENT] == language_persistent_column_feature()
    assert ours[EVENTS] == language_events_column_feature()


def test_lerobot_reads_the_words(dataset):
    """On every row those that last, on their row those that happen."""
    assert dataset.meta.has_language_columns
    lasting = [(each["style"], each["content"], each["timestamp"]) for each in dataset[7][PERSISTENT]]
    assert lasting == [("subtask", "grasp the cube", 0.0), ("subtask", "place the cube", 1.0)]
    assert [row for row in range(20) if dataset[row][EVENTS]] == [5]
    (event,) = dataset[5][EVENTS]
    assert (event["role"], event["style"], event["content"]) == ("user", "interjection", "not that one")
    assert active_at(0.7, persistent=dataset[7][PERSISTENT], style="subtask")["content"] == "grasp the cube"
    assert active_at(1.0, persistent=dataset[7][PERSISTENT], style="subtask")["content"] == "place the cube"
    assert emitted_at(0.5, persistent=[], events=dataset[5][EVENTS], style="interjection") is not None
    assert (dataset[25][PERSISTENT], dataset[25][EVENTS]) == ([], [])


@pytest.mark.parametrize(
    "said",
    [
        Said(0.0, "song", "la"),
        Said(0.0, "vqa", "what is it?"),
        Said(0.0, "subtask", "grasp", camera="observation.images.front"),
    ],
)
def test_what_lerobot_refuses_is_not_written(said):
    with pytest.raises(ValueError, match=said.style):
        language_columns([said], 10, FPS)
