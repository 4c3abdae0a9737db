"""Recorded video that video-ingest-service keeps on S3."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import av
import pytest
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_backend.demo.relay import Relay, relay_to
from teleop_export.tables import export_table
from teleop_testing.waiting import until


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


@pytest.fixture
def line(s3, store, monkeypatch) -> Iterator[Relay]:
    """The only way of the service to the S3 server."""
    port = urlsplit(s3.environment["AWS_ENDPOINT_URL"]).port
    with relay_to(port) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.port}")
        yield relay


async def test_an_export_waits_while_s3_is_away(line, backend, record, film, monkeypatch):
    """However long that takes: it says what it waits for, and no attempt is lost."""
    monkeypatch.setattr(export_table, "MAX_ATTEMPTS", 1)
    session = await record(60)
    await film(session, 60)
    line.cut()
    export_id = (await backend.ask(session))["id"]

    async def waits_for() -> dict | None:
        return (await backend.http.get(f"/exports/{export_id}")).json()["waits_for"]

    told = await until(waits_for)
    assert (told["code"], told["retryable"]) == ("store_unusable", True)
    line.mend()
    assert (await backend.ended(export_id))["status"] == "done"
