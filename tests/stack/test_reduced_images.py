"""What images are made without is not missed: all that FFmpeg and Arrow are there for, done by the images."""

import os
import shutil
from pathlib import Path
from typing import Any

import docker
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mcap.reader import make_reader
from recorder import FRAMES, PICTURE_EVERY
from stack import Stack
from test_alone import LIMITS
from test_main_job import EXPORT_TO_DATASET

DATA = "data/chunk-000/file-000.parquet"
PICTURES, GREY = 3, 120
ENCODE = f"""
import av, numpy
from teleop_export.making.video_writer import encode
from teleop_dataset.v3.info import VideoFeature

grey = av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), {GREY}, numpy.uint8), format="rgb24")
for codec, pix_fmt in ("h264", "yuv420p"), ("h264", "gbrp"), ("hevc", "yuv420p"), ("av1", "yuv420p"):
    camera = VideoFeature("front", 64, 64, codec, pix_fmt)
    encode(f"/videos/{{codec}}-{{pix_fmt}}.mp4", iter([(grey, {PICTURES})]), camera, 30)
depth = VideoFeature("depth", 64, 64, "hevc", "gray12le", "mm")
encode("/videos/hevc-gray12le.mp4", iter([(grey, {PICTURES})]), depth, 30)
"""
DECODE = """
import av
from pathlib import Path

for path in sorted(Path("/videos").iterdir()):
    with av.open(str(path)) as file:
        means = [round(frame.to_ndarray(format="rgb24").mean()) for frame in file.decode(video=0)]
    print(path.stem, *means)
"""


def run(engine: docker.DockerClient, image: str, command: list[str], folder: str) -> list[str]:
    """Lines that a program of an image prints, with a folder of this machine; ContainerError if it fails."""
    output: bytes = engine.containers.run(
        f"lerobot-backend/{image}",
        command[1:],
        entrypoint=command[0],
        user=f"{os.getuid()}:{os.getgid()}",
        volumes=[folder],
        remove=True,
        **LIMITS,
    )
    return output.decode().splitlines()


def export(stack: Stack, recorded: dict[str, Any], root: Path, *words: str) -> Path:
    """A session as the command exports it."""
    session = [
        "--session_id",
        str(recorded["session_id"]),
        "--repo_id",
        "someone/reduced",
        "--root",
        str(root),
    ]
    stack.run([str(EXPORT_TO_DATASET), "--backend_url", stack.url, *session, *words])
    return root


@pytest.fixture(scope="module")
def videos(engine: docker.DockerClient, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of every kind that a dataset may have, encoded by export-service."""
    folder = tmp_path_factory.mktemp("videos")
    run(engine, "export-service", ["python", "-c", ENCODE], f"{folder}:/videos")
    return folder


@pytest.fixture(scope="module")
def dataset(stack: Stack, recorded: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session as a dataset with video."""
    return export(stack, recorded, tmp_path_factory.mktemp("exported") / "dataset")


@pytest.mark.parametrize("image", ["export-service", "video-ingest-service", "sync-agent"])
def test_every_kind_of_video_is_made_and_read(engine, agent_image, videos, image):
    """Encoded by the service that makes datasets, decoded by all that look into them: as many, as grey."""
    lines = run(engine, image, ["python", "-c", DECODE], f"{videos}:/videos:ro")
    read = {name: [int(mean) for mean in means] for name, *means in map(str.split, lines)}
    assert sorted(read) == ["av1-yuv420p", "h264-gbrp", "h264-yuv420p", "hevc-gray12le", "hevc-yuv420p"]
    for means in read.values():
        assert means == pytest.approx([GREY] * PICTURES, abs=3)


def test_sessions_are_exported_as_they_were_recorded(stack, recorded, tmp_path):
    """Tables, and a file of joints and video."""
    tables = export(stack, recorded, tmp_path / "tables", "--format", "parquet")
    rows = [pq.read_metadata(path).num_rows for path in tables.rglob("*frames*.parquet")]
    assert sum(rows) == FRAMES
    (file,) = export(stack, recorded, tmp_path / "file", "--format", "mcap").rglob("*.mcap")
    with file.open("rb") as stream:
        counts = make_reader(stream).get_summary().statistics.channel_message_counts.values()
    assert {FRAMES, FRAMES // PICTURE_EVERY} <= set(counts)


@pytest.mark.parametrize(
    ("image", "command"),
    [
        ("video-ingest-service", ["python", "-m", "teleop_video_ingest.datasets.repair_worker", "torn"]),
        ("sync-agent", ["python", "-m", "teleop_dataset.repair"]),
    ],
)
def test_a_torn_dataset_is_repaired(engine, agent_image, dataset, tmp_path, image, command):
    """Its recorder was killed before it wrote the footer of the data: all rows and videos are there again."""
    table = pq.read_table(dataset / DATA)
    write_torn(shutil.copytree(dataset, tmp_path / "torn") / DATA, table)
    run(engine, image, [*command, "/files/torn", "/files/repaired"], f"{tmp_path}:/files")
    repaired = tmp_path / "repaired"
    assert pq.read_table(repaired / DATA).equals(table)
    videos = [path.relative_to(dataset) for path in dataset.rglob("*.mp4")]
    assert videos
    assert all((repaired / path).exists() for path in videos)


def write_torn(path: Path, table: pa.Table) -> None:
    """What a recorder leaves that was killed: all of its rows, and no footer."""
    with path.open("wb") as file:
        writer = pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
        size_bytes = file.tell()
        writer.close()
        file.truncate(size_bytes)
