"""What a user does, through the proxy: record with cameras, look, export, back up a dataset, play video."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.uploading import Uploader
from lerobot_robot_virtual.arm import NAMES, leader_positions
from lerobot_robot_virtual.scene import read_frame_counter, render
from teleop_schema.files import DatasetFile, FilePlan
from teleop_schema.session import Camera

FRAMES, RATE_HZ = 180, 60.0
HEIGHT, WIDTH = 120, 160
PATIENCE_S = 60.0
LARGE_BYTES = 64 * 1024 * 1024
MIB = 1024 * 1024


def until(look: Callable[[], Any]) -> Any:
    """What `look` gives once it gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def recorded(stack, tmp_path_factory) -> dict[str, Any]:
    """A session of one episode and one camera, recorded by the robot library; its ledger."""
    folder = tmp_path_factory.mktemp("spool")
    with TelemetryClient(
        stack.url,
        "robot_stack",
        state_names=NAMES,
        action_names=NAMES,
        fps=RATE_HZ,
        cameras={"front": Camera(HEIGHT, WIDTH, 30.0)},
        spool_dir=folder,
        min_free_bytes=0,
    ) as client:
        client.start_episode("wave")
        picture = None
        for index in range(FRAMES):
            positions = leader_positions(index / RATE_HZ)
            if index % 2 == 0:
                picture = render("front", positions, index, height=HEIGHT, width=WIDTH)
            client.log({**positions, "front": picture}, positions)
            time.sleep(1 / RATE_HZ)
        client.end_episode("success")
    assert client.drain(timeout_s=PATIENCE_S) == 0
    session = client.session_id
    return httpx.get(f"{stack.url}/sessions/{session}/ledger").json()


def test_every_sample_is_there(recorded):
    """Logged, committed, none missing, none twice."""
    assert recorded["complete"]
    assert (recorded["logged"], recorded["committed"]) == (FRAMES, FRAMES)


def test_its_video_is_there_and_plays(stack, recorded):
    """The segments that the robot's encoder made came over by themselves; a player may ask for a part."""
    address = f"{stack.url}/sessions/{recorded['session_id']}/videos"

    def all_pictures() -> list[dict[str, Any]]:
        videos: list[dict[str, Any]] = httpx.get(address).json()
        return videos if sum(video["frame_count"] or 0 for video in videos) == FRAMES // 2 else []

    for video in until(all_pictures):
        assert video["quarantine"] is None
        content = f"{stack.url}/videos/{video['id']}/content"
        whole = httpx.get(content).content
        assert hashlib.sha256(whole).hexdigest() == video["sha256"]
        part = httpx.get(content, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, whole[100:200])


def test_an_export_opens_in_lerobot(stack, recorded, tmp_path, monkeypatch):
    """The worker, a container of its own, makes a dataset that the service next to it hands out."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    order = {"session_ids": [recorded["session_id"]], "repo_id": "someone/waving"}
    export = httpx.post(f"{stack.url}/exports", json=order).json()

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = httpx.get(f"{stack.url}/exports/{export['id']}").json()
        return found if found["status"] not in ("queued", "running") else None

    assert until(ended)["status"] == "done"
    command = ["--session_id", str(recorded["session_id"]), "--repo_id", "someone/waving"]
    export_to_dataset(stack, [*command, "--root", str(tmp_path / "waving")])
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("someone/waving", root=tmp_path / "waving", video_backend="pyav")
    assert (dataset.num_episodes, dataset.num_frames) == (1, FRAMES // 2)
    for row in (0, 1, len(dataset) // 2, len(dataset) - 1):
        item = dataset[row]
        picture = (item["observation.images.front"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        index = read_frame_counter(picture)
        expected = leader_positions(index / RATE_HZ)
        np.testing.assert_allclose(item["observation.state"], [expected[name] for name in NAMES], rtol=1e-6)


async def test_a_large_file_passes_the_proxy(stack, tmp_path):
    """A file of a dataset, resumable and unbuffered; the proxy's memory does not grow with it."""
    content = np.random.default_rng(7).bytes(LARGE_BYTES)
    file = DatasetFile(
        robot_id="robot_stack",
        dataset="someone/large",
        path="data/chunk-000/file-000.parquet",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )

    class Bytes:
        def read_at(self, offset: int, size: int) -> bytes:
            return content[offset : offset + size]

    async with Uploader(stack.url) as uploader:
        receipt = await uploader.upload(FilePlan(file=file), Bytes())
        again = await uploader.upload(FilePlan(file=file), Bytes())
    assert receipt.sha256 == again.sha256 == file.sha256
    assert uploader.sent_bytes == LARGE_BYTES
    address = f"{stack.url}/datasets/robot_stack/someone/large/files/{file.path}"
    async with httpx.AsyncClient() as client:
        assert hashlib.sha256((await client.get(address)).content).hexdigest() == file.sha256
    used = stack.container("proxy").stats(stream=False)["memory_stats"]["max_usage"]
    assert used < LARGE_BYTES, f"the proxy took {used / MIB:.0f} MiB"


def test_one_document_describes_all_addresses(stack):
    """What the proxy serves at /openapi.json is what its services answer, address by address."""
    document = httpx.get(f"{stack.url}/openapi.json").json()
    expected: dict[str, Any] = {}
    for service, port in (
        ("telemetry-service", 8001),
        ("video-ingest-service", 8002),
        ("export-service", 8003),
    ):
        code = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/openapi.json').read().decode())"
        output = stack.containers(service)[0].exec_run(["python", "-c", code]).output
        expected |= json.loads(output)["paths"]
    assert document["paths"] == expected, "run make openapi"
    for path in expected:
        address = path.replace("{robot_id}", "robot_stack").replace("{name}", "someone/large")
        for name in ("session_id", "episode_index", "export_id", "video_id", "upload_id", "path"):
            address = address.replace(f"{{{name}}}", "1")
        # HEAD or GET, whatever a service says, it is a service that says it.
        assert "x-request-id" in httpx.get(f"{stack.url}{address}").headers, address


def test_the_door_says_what_is_wrong(stack):
    """Unknown addresses are told as problems; metrics are not published."""
    for path in ("/nothing", "/metrics"):
        answer = httpx.get(f"{stack.url}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.headers["content-type"] == "application/problem+json"


def export_to_dataset(stack, words: list[str]) -> None:
    """The command that people use."""
    stack.run([str(Path(sys.executable).parent / "export-to-dataset"), "--backend_url", stack.url, *words])
