"""Recorded video that video-ingest-service keeps on S3."""

import av
import pytest
from lerobot_robot_virtual.scene import read_frame_counter


@pytest.fixture
def store(s3_folder) -> str:
    """In place of a folder."""
    return s3_folder.address


async def test_pictures_come_from_s3(backend, record, film):
    """Segments are fetched one after the other, and every picture is in its place."""
    session = await record(240, episodes=[(0, 90), (90, 240)])
    await film(session, 240, segment=10)
    export, folder = await backend.export(session)
    assert export["report"]["cameras"][0]["copied"] == 2
    with av.open(str(folder / "videos/observation.images.front/chunk-000/file-000.mp4")) as file:
        shown = [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    assert shown == list(range(120))


async def test_lost_object_fails_the_export(backend, record, film, s3_folder):
    """As with a folder."""
    session = await record(60)
    await film(session, 60)
    for key in s3_folder.object_keys():
        if "objects/" in key:
            s3_folder.remove(key)
    export = await backend.ended((await backend.ask(session))["id"])
    assert (export["status"], export["error"]["code"]) == ("failed", "object_missing")
