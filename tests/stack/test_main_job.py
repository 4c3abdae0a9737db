"""What a user does, through the proxy: record with cameras, look, export, back up a dataset, play video."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from lerobot_robot_virtual.scene import read_frame_counter
from recorder import FRAMES, PICTURE_EVERY, state_of
from teleop_client.uploading import Uploader
from teleop_schema.files import FilePlan
from teleop_testing.datasets.files import dataset_file
from teleop_testing.waiting import PATIENCE_S
from uploads import Bytes

EXPORT_TO_DATASET = Path(sys.executable).parent / "export-to-dataset"
LARGE_BYTES = 64 * 1024 * 1024
MIB = 1024 * 1024


def test_every_sample_is_there(recorded):
    """Logged, committed, none missing, none twice."""
    assert recorded["complete"]
    assert (recorded["logged"], recorded["committed"]) == (FRAMES, FRAMES)


def test_its_video_is_there_and_plays(stack, recorded):
    """The robot's own encoder made it, its own process brought it; a player may ask for a part."""
    found = httpx.get(f"{stack.url}/sessions/{recorded['session_id']}/videos", timeout=PATIENCE_S).json()
    assert sum(video["frame_count"] for video in found["videos"]) == FRAMES // PICTURE_EVERY
    for video in found["videos"]:
        assert video["quarantine"] is None
        whole = httpx.get(f"{stack.url}{video['content']}", timeout=PATIENCE_S).content
        assert hashlib.sha256(whole).hexdigest() == video["sha256"]
        part = httpx.get(
            f"{stack.url}{video['content']}", headers={"Range": "bytes=100-199"}, timeout=PATIENCE_S
        )
        assert (part.status_code, part.content) == (206, whole[100:200])


def test_an_export_opens_in_lerobot(stack, recorded, tmp_path, monkeypatch):
    """The command that people use; each row has the picture that its loop iteration saw."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = tmp_path / "waving"
    words = ["--session_id", str(recorded["session_id"]), "--repo_id", "someone/waving", "--root", str(root)]
    stack.run([str(EXPORT_TO_DATASET), "--backend_url", stack.url, *words])
    (export,) = httpx.get(
        f"{stack.url}/exports", params={"repo_id": "someone/waving"}, timeout=PATIENCE_S
    ).json()["exports"]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("someone/waving", root=root, video_backend="pyav")
    assert (dataset.num_episodes, dataset.num_frames) == (1, export["numbers"]["frames"])
    for row in (0, 1, len(dataset) // 2, len(dataset) - 1):
        item = dataset[row]
        picture = (item["observation.images.front"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        seen = read_frame_counter(picture)
        candidates = [state_of(index) for index in range(seen, seen + PICTURE_EVERY)]
        assert any(np.allclose(item["observation.state"], state, rtol=1e-5) for state in candidates)


async def test_a_large_file_passes_the_proxy(stack, tmp_path):
    """A file of a dataset, resumable and unbuffered; the proxy's memory does not grow with it."""
    content = np.random.default_rng(7).bytes(LARGE_BYTES)
    file = dataset_file(content, "data/chunk-000/file-000.parquet", dataset="someone/large")
    async with Uploader(stack.url) as uploader:
        receipt = await uploader.upload(FilePlan(file=file), Bytes(content))
        again = await uploader.upload(FilePlan(file=file), Bytes(content))
    assert receipt.sha256 == again.sha256 == file.sha256
    assert uploader.sent_bytes == LARGE_BYTES
    address = f"{stack.url}/datasets/robot_A/someone/large/files/{file.path}"
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert hashlib.sha256((await client.get(address)).content).hexdigest() == file.sha256
    memory = stack.container("proxy").stats(stream=False)["memory_stats"]
    used = memory.get("max_usage", memory["usage"])
    assert used < LARGE_BYTES, f"the proxy took {used / MIB:.0f} MiB"


def test_one_document_describes_all_addresses(stack):
    """What the proxy serves at /openapi.json is what its services answer, address by address."""
    document = httpx.get(f"{stack.url}/openapi.json", timeout=PATIENCE_S).json()
    expected: dict[str, Any] = {}
    for service, port in (
        ("telemetry-service", 8001),
        ("video-ingest-service", 8002),
        ("export-service", 8003),
    ):
        address = stack.url_of(stack.containers(service)[0], port)
        expected |= httpx.get(f"{address}/openapi.json", timeout=PATIENCE_S).json()["paths"]
    page = {path: document["paths"].pop(path) for path in ("/", "/ui/{file}")}
    assert document["paths"] == expected, "run make openapi"
    assert all("server" not in operations["get"]["tags"] for operations in page.values())
    described = httpx.get(f"{stack.url}/docs", timeout=PATIENCE_S)
    assert described.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in described.headers["content-security-policy"]
    for path, operations in expected.items():
        # What every service has is answered by the proxy itself.
        if any("server" in operation["tags"] for operation in operations.values()):
            continue
        address = path.replace("{robot_id}", "robot_A").replace("{name}", "someone/large")
        for name in ("session_id", "episode_index", "export_id", "video_id", "upload_id", "path"):
            address = address.replace(f"{{{name}}}", "1")
        # HEAD or GET, whatever a service says, it is a service that says it.
        assert "x-request-id" in httpx.get(f"{stack.url}{address}", timeout=PATIENCE_S).headers, address


def test_the_door_says_what_is_wrong(stack):
    """Unknown addresses are told as problems; metrics are not published."""
    for path in ("/nothing", "/metrics"):
        answer = httpx.get(f"{stack.url}{path}", timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.headers["content-type"] == "application/problem+json"
