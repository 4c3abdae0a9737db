"""Datasets of two cameras and four episodes, as `libs/dataset` has them recorded, compared after a repair."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_dataset.mp4_samples import samples_of

CAMERAS = ("observation.images.front", "observation.images.wrist")
FRAMES = [21, 30, 17, 24]
DATA = "data/chunk-000/file-000.parquet"
META = "meta/episodes/chunk-000/file-000.parquet"


def rows(folder: Path) -> pa.Table:
    """All rows, of columns as they are stored: `datasets`, once imported, makes types of its own of some."""
    table = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("data/*/*.parquet")))
    for index, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):
            stored = pa.chunked_array([chunk.storage for chunk in table.column(index).chunks])
            table = table.set_column(index, field.name, stored)
    return table


def episode_rows(folder: Path) -> list[dict[str, Any]]:
    """What is told of each episode."""
    paths = sorted(folder.glob("meta/episodes/*/*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def packets(folder: Path, camera: str) -> list[bytes]:
    """A camera's pictures as they are encoded."""
    found: list[bytes] = []
    for path in sorted(folder.glob(f"videos/{camera}/*/*.mp4")):
        with av.open(str(path)) as file:
            found += [bytes(packet) for packet in file.demux(video=0) if packet.size]
    return found


def pictures(folder: Path, camera: str) -> list[bytes]:
    """A camera's pictures, decoded."""
    found: list[bytes] = []
    for path in sorted(folder.glob(f"videos/{camera}/*/*.mp4")):
        with av.open(str(path)) as file:
            found += [
                frame.to_ndarray(format="rgb24").tobytes() for frame in file.decode(file.streams.video[0])
            ]
    return found


def assert_same_episodes(repaired: Path, whole: Path, episodes: int) -> None:
    """The first episodes of both are equal: rows, packets, decoded pictures, and what is told of them."""
    frames = sum(row["length"] for row in episode_rows(whole)[:episodes])
    assert rows(repaired).equals(rows(whole).slice(0, frames))
    for camera in CAMERAS:
        if episodes > 1:
            # Joining the second H.264 episode to the first, LeRobot puts parameter sets into packets.
            assert packets(repaired, camera) == packets(whole, camera)[:frames]
        assert pictures(repaired, camera) == pictures(whole, camera)[:frames]
    for found, expected in zip(episode_rows(repaired), episode_rows(whole), strict=False):
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            if "images" in name and name.startswith("stats/"):
                assert_close_pictures(name.split("/")[-1], found[name], value)
            else:
                assert found[name] == value, name


def assert_picked_episodes(repaired: Path, whole: Path, picked: list[int]) -> None:
    """The repaired dataset is these episodes of the whole one: rows, pictures and statistics, numbered on."""
    told = episode_rows(whole)
    ranges = [range(told[index]["dataset_from_index"], told[index]["dataset_to_index"]) for index in picked]
    frames = [frame for each in ranges for frame in each]
    recorded = [name for name in rows(whole).column_names if name not in ("index", "episode_index")]
    found = rows(repaired)
    assert found.select(recorded).equals(rows(whole).select(recorded).take(frames))
    assert found.column("index").to_pylist() == list(range(len(frames)))
    assert found.column("episode_index").to_pylist() == [
        number for number, each in enumerate(ranges) for _ in each
    ]
    for camera in CAMERAS:
        expected = pictures(whole, camera)
        assert pictures(repaired, camera) == [expected[frame] for frame in frames]
    for number, (row, index) in enumerate(zip(episode_rows(repaired), picked, strict=True)):
        assert (row["episode_index"], row["length"]) == (number, told[index]["length"])
        assert row["tasks"] == told[index]["tasks"]
        assert row["stats/episode_index/mean"] == [number]
        assert row["stats/index/min"] == [row["dataset_from_index"]]
        assert row["stats/action/mean"] == told[index]["stats/action/mean"]


def assert_lerobot_reads(folder: Path, episodes: int) -> None:
    """LeRobot opens it and reads the first and the last frame of each episode."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("someone/picking", root=folder)
    assert dataset.num_episodes == episodes
    ends = [row["dataset_to_index"] for row in episode_rows(folder)]
    begins = [row["dataset_from_index"] for row in episode_rows(folder)]
    for index in [*begins, *(end - 1 for end in ends)]:
        item = dataset[index]
        assert int(item["index"]) == index
        assert all(item[camera].shape == (3, 64, 96) for camera in CAMERAS)


def assert_close_pictures(statistic: str, found: list[float], expected: list[float]) -> None:
    """LeRobot looked at the pictures before they were compressed; white is 1."""
    extreme = statistic in ("min", "max", "q01", "q99")
    np.testing.assert_allclose(found, expected, atol=0.15 if extreme else 0.03, err_msg=statistic)


def hole(path: Path, pictures: range) -> None:
    """Zeros where some of an mp4's pictures were, as a file system leaves them after a power cut."""
    samples = samples_of(path)
    with path.open("r+b") as file:
        for number in pictures:
            file.seek(int(samples.offset[number]))
            file.write(bytes(int(samples.size[number])))
