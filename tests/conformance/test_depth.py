"""Depth in an export is what LeRobot makes of depth: the real one reads, streams, collates and splits it."""

import json

import numpy as np
import pytest
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import as_depth, depth_as_picture, read_frame_counter, render
from teleop_testing.datasets.recorded_video import STARTED_US

FRAMES, FPS, CAMERA_FPS = 120, 60, 30
EPISODES = [(0, 50, "pick", None), (50, FRAMES, "place", None)]
KEY = "observation.images.front_depth"
HEIGHT, WIDTH = 48, 64


def open_dataset(root, **more):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(f"lab/{root.name}", root=root, **more)


def read_back(number):
    """Depth of picture `number` as LeRobot gives it once it was quantised, in mm, (1, height, width)."""
    from lerobot.datasets.depth_utils import dequantize_depth, quantize_depth

    depth = as_depth(render("front", REST, number, height=HEIGHT, width=WIDTH))
    return dequantize_depth(quantize_depth(depth, video_backend=None)).numpy()


def record(exporter, **about):
    """A session with a camera of colours and one of depth."""
    session = exporter.record(FRAMES, EPISODES)
    exporter.film(session, FRAMES, "front", segment=25, height=HEIGHT, width=WIDTH)
    depth = {"segment": 25, "height": HEIGHT, "width": WIDTH, "depth_unit": "mm", **about}
    return session, exporter.film(session, FRAMES, "front_depth", **depth)


def iteration(item):
    return round((int(item["capture.time_ns"]) / 1000 - STARTED_US) * FPS / 1e6)


@pytest.mark.parametrize(
    ("about", "asked", "encoded"),
    [({}, {}, 0), ({}, {"fps": FPS}, 0), ({"gop": 10}, {"fps": FPS}, 2)],
    ids=["copied", "repeated", "encoded"],
)
def test_every_row_has_its_depth(exporter, about, asked, encoded):
    """To the last code, whether pictures are copied, shown twice, or had to be re-encoded."""
    session, video = record(exporter, **about)
    root = exporter.export(session, f"depth-{len(about)}-{len(asked)}", **asked)
    dataset = open_dataset(root)
    assert dataset.meta.depth_keys == [KEY]
    for row in range(len(dataset)):
        item = dataset[row]
        number = video.shown(iteration(item))
        np.testing.assert_array_equal(item[KEY].numpy(), read_back(number))
        assert read_frame_counter(depth_as_picture(item[KEY].numpy()[0][:, :, None])) == number
    report = json.loads((root / "meta/backend.json").read_text())["report"]
    told = {each["camera"]: each for each in report["cameras"]}["front_depth"]
    assert (len(told["encoded"]), told["copied"]) == (encoded, 2 - encoded)


@pytest.mark.parametrize("unit", ["mm", "m"])
def test_statistics_are_of_depth_in_the_cameras_unit(exporter, unit):
    """Not scaled as colours are; LeRobot turns them into the unit in which it gives depth."""
    session, video = record(exporter, depth_unit=unit)
    dataset = open_dataset(exporter.export(session, f"unit-{unit}", cameras=["front_depth"]))
    info = json.loads((dataset.root / "meta/info.json").read_text())["features"][KEY]
    assert (info["shape"], info["info"]["depth_unit"]) == ([HEIGHT, WIDTH, 1], unit)
    every = np.stack([read_back(picture.number) for picture in video.taken])
    stats = dataset.meta.stats[KEY]
    assert stats["mean"].shape == (1, 1, 1)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(stats[name].item(), getattr(every, name)(), atol=3, err_msg=name)


def test_batches_and_streams(exporter):
    """What trains on it takes: batches of colours beside depth, in metres too, and the stream of rows."""
    from lerobot.datasets.streaming_dataset import StreamingLeRobotDataset
    from torch.utils.data import DataLoader

    session, video = record(exporter)
    root = exporter.export(session, "batches", streaming_safe=True)
    metres = open_dataset(root, depth_output_unit="m")
    batch = next(iter(DataLoader(metres, batch_size=8)))
    assert batch[KEY].shape == (8, 1, HEIGHT, WIDTH)
    assert batch["observation.images.front"].shape == (8, 3, HEIGHT, WIDTH)
    streamed = StreamingLeRobotDataset("lab/batches", root=root, shuffle=False, max_num_shards=1)
    rows = 0
    for item in streamed:
        number = video.shown(iteration(item))
        np.testing.assert_array_equal(item[KEY].numpy(), read_back(number))
        again = metres[int(item["index"])][KEY].numpy()
        np.testing.assert_allclose(again * 1000, read_back(number), atol=0.51)
        rows += 1
    assert rows == len(metres)
