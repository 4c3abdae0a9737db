"""Repairing the dataset of a recorder that was killed, as it lies on the server."""

import io
import json
import signal
import sys
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from teleop_runtime.store.local import LocalStore
from teleop_schema.identifiers import stored_path
from teleop_testing.datasets.files import dataset_file, manifest_of
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.datasets import repairs

# The real LeRobot: a dataset with video that it closes, then one in whose third episode it is killed -9.
RECORDER = """
import os, signal, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

joints = {"dtype": "float32", "shape": (2,), "names": ["a.pos", "b.pos"]}
camera = {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
dataset = LeRobotDataset.create(
    "someone/closed", fps=30, root=sys.argv[2],
    features={"observation.state": joints, "action": joints, "observation.images.front": camera})
noise = np.random.default_rng(0)
for episode in range(3):
    for frame in range(8):
        values = np.array([episode, frame], np.float32)
        picture = noise.integers(0, 256, (64, 64, 3), np.uint8)
        dataset.add_frame({"observation.state": values, "action": values, "observation.images.front": picture,
                           "task": "pick"})
    dataset.save_episode(parallel_encoding=False)
dataset.finalize()
dataset = LeRobotDataset.create(
    "someone/torn", fps=30, root=sys.argv[1], features={"observation.state": joints, "action": joints},
    use_videos=False)
for episode in range(3):
    for frame in range(20):
        values = np.array([episode, frame], np.float32)
        dataset.add_frame({"observation.state": values, "action": values + 0.5, "task": "pick"})
        if episode == 2 and frame == 10:
            os.kill(os.getpid(), signal.SIGKILL)
    dataset.save_episode()
"""
ADDRESS = "/datasets/robot_A/someone/torn"


@pytest.fixture(scope="module")
def recorded(python, tmp_path_factory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files, by path, of a dataset without footers, and of one that was closed."""
    torn, closed = (tmp_path_factory.mktemp(name) / "dataset" for name in ("torn", "closed"))
    assert python.run([sys.executable, "-c", RECORDER, torn, closed]).returncode == -signal.SIGKILL
    return files_of(torn), files_of(closed)


def files_of(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def torn(recorded) -> dict[str, bytes]:
    """Files of a dataset without footers, by path."""
    return recorded[0]


@pytest.fixture
def closed(recorded) -> dict[str, bytes]:
    """Files of a dataset that LeRobot closed, by path."""
    return recorded[1]


@pytest.fixture
def publish(catalog, keep, http):
    """Stores a version of the dataset."""

    async def publish(files: dict[str, bytes], **state) -> None:
        for path, content in files.items():
            await keep(content)
            await catalog.accept(dataset_file(content, path, dataset="someone/torn"))
        body = msgspec.json.encode(manifest_of(files, **state))
        assert (await http.post(f"{ADDRESS}/versions", content=body)).status_code == 201

    return publish


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            each.name.removeprefix("someone/torn/"): tar.extractfile(each).read()
            for each in tar
            if each.isfile()
        }


async def test_a_torn_dataset_becomes_a_whole_version(http, publish, torn, store_root):
    """Its saved episodes and other files are all there; the original stays as it was, beside it."""
    notes = stored_path("arm:left.json")
    torn = torn | {notes: b"{}"}
    await publish(torn, episodes=2)
    answer = await http.post(f"{ADDRESS}/repair", timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    version = answer.json()["version"]
    assert (version["version"], version["source"], version["repaired_from"]) == (2, "repair", 1)
    assert (version["total_episodes"], version["total_frames"], version["finalised"]) == (2, 40, True)
    assert "recovered 2 episodes" in answer.json()["report"]
    repaired = unpacked((await http.get(f"{ADDRESS}/restore")).content)
    assert json.loads(repaired["meta/info.json"])["total_episodes"] == 2
    assert repaired[notes] == b"{}"
    table = pq.read_table(io.BytesIO(repaired["data/chunk-000/file-000.parquet"]))
    expected = [[episode, frame] for episode in range(2) for frame in range(20)]
    assert table.column("observation.state").to_pylist() == expected
    assert unpacked((await http.get(f"{ADDRESS}/restore?version=1")).content) == torn
    assert (await http.get(ADDRESS)).json()["status"] == "repaired"
    assert not list((store_root / ".repair").iterdir())


async def test_no_transaction_lasts_as_long_as_a_file_takes(http, publish, torn, monkeypatch):
    """It has a limit, and a large file on its way to a slow bucket would reach it: the repair would fail."""
    await publish(torn, episodes=2)
    begun, held, on_the_way = repairs.transaction, [], []

    @asynccontextmanager
    async def transaction(*arguments, **options):
        async with begun(*arguments, **options) as connection:
            held.append(connection)
            yield connection
            held.remove(connection)

    append = LocalStore.append

    async def append_meanwhile(store, *arguments, **options):
        on_the_way.append(list(held))
        return await append(store, *arguments, **options)

    monkeypatch.setattr(repairs, "transaction", transaction)
    monkeypatch.setattr(LocalStore, "append", append_meanwhile)
    assert (await http.post(f"{ADDRESS}/repair", timeout=PATIENCE_S)).status_code == 201
    assert on_the_way
    assert not any(on_the_way)


async def test_the_same_repair_again_is_the_same_version(http, publish, torn):
    """And a repaired version needs none."""
    await publish(torn, episodes=2)
    answers = [(await http.post(f"{ADDRESS}/repair", timeout=PATIENCE_S)).json() for _ in range(2)]
    assert answers[0]["version"] == answers[1]["version"]
    refused = await http.post(f"{ADDRESS}/repair?version=2")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_sound")


async def test_what_is_finalised_and_whole_is_not_repaired(http, publish, closed):
    """409: there is nothing to do."""
    await publish(closed, episodes=3, finalised=True)
    refused = await http.post(f"{ADDRESS}/repair", timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_sound")
    assert "nothing is wrong: 3 episodes, 24 frames" in refused.json()["detail"]


async def test_finalised_video_with_a_hole_is_repaired(http, publish, closed):
    """Its bytes are those that were sent, but pictures can't be read: the other episodes come back."""
    (video,) = (path for path in closed if path.endswith(".mp4"))
    begin = closed[video].index(b"mdat") + 4
    holed = closed[video][:begin] + bytes(2000) + closed[video][begin + 2000 :]
    await publish(closed | {video: holed}, episodes=3, finalised=True)
    answer = await http.post(f"{ADDRESS}/repair", timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    assert answer.json()["version"]["total_episodes"] == 2
    assert "lost: episode 0 (8 rows)" in answer.json()["report"]


async def test_what_can_not_be_repaired_says_why(http, publish):
    """No version comes of it."""
    await publish({"meta/info.json": b"not even JSON", "data/file.parquet": b"PAR1 and nothing"})
    refused = await http.post(f"{ADDRESS}/repair", timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_repairable")
    assert "info.json" in refused.json()["detail"]
    assert len((await http.get(f"{ADDRESS}/versions")).json()["versions"]) == 1


async def test_nothing_to_repair_without_a_version(http, catalog, keep):
    """Files that no manifest has bound together are no dataset yet."""
    await keep(b"{}")
    await catalog.accept(dataset_file(b"{}", dataset="someone/torn"))
    refused = await http.post(f"{ADDRESS}/repair")
    assert (refused.status_code, refused.json()["code"]) == (404, "version_not_found")
