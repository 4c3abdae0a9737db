"""A disk that is full, or becomes so."""

import asyncio
import subprocess

import pytest
from teleop_testing.machine.disks import disk_of

pytestmark = pytest.mark.root("a small disk is mounted")

SIZE_BYTES = 1024 * 1024
# Takes more than the whole disk.
FRAMES = 60_000


@pytest.fixture
def small_disk(tmp_path):
    """Exports are made on a filesystem of one MiB."""
    with disk_of(tmp_path / "exports", SIZE_BYTES) as folder:
        yield folder


async def test_what_does_not_fit_is_refused(small_disk, serve, record):
    """507 with the bytes needed and those that there are; nothing is queued."""
    session = await record(FRAMES)
    async with serve() as backend:
        problem = await backend.ask(session, status=507)
        assert problem["code"] == "no_space"
        assert 0 < problem["limit"] < SIZE_BYTES
        needed = int(problem["detail"].split("about ")[1].split()[0])
        assert needed > SIZE_BYTES
        assert (await backend.http.get("/exports")).json()["exports"] == []


async def test_video_that_does_not_fit_is_refused(small_disk, serve, record, film):
    """507 too: the bytes needed are those of the pictures more than those of the joints."""
    session = await record(1200)
    await film(session, 1200, segment=100, same_pictures=True, height=480, width=640)
    async with serve() as backend:
        problem = await backend.ask(session, status=507)
        assert problem["code"] == "no_space"
        assert int(problem["detail"].split("about ")[1].split()[0]) > SIZE_BYTES
        await backend.ask(session, cameras=[])


@pytest.mark.parametrize("format", ["lerobot-v3.0", "parquet", "mcap"])
async def test_disk_that_fills_up_fails_the_export(small_disk, serve, record, monkeypatch, format):
    """By name, with nothing left and nothing half published; the same request succeeds once there is room."""
    monkeypatch.setattr("teleop_export.work.folders.KEEP_FREE", -100.0)
    session = await record(FRAMES)
    async with serve() as backend:
        failed = await backend.ended((await backend.ask(session, format=format))["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "no_space")
        assert failed["error"]["hint"]
        await backend.leaves_nothing()
        larger = ["mount", "-o", "remount,size=256m", small_disk]
        await asyncio.to_thread(subprocess.run, larger, check=True)
        again, _ = await backend.export(session, format=format)
        assert (again["id"], again["numbers"]["frames"]) == (failed["id"], FRAMES)


async def test_disk_that_fills_up_with_video_fails_the_export(small_disk, serve, record, film, monkeypatch):
    """By name too, in the middle of a copied mp4; the same request succeeds once there is room."""
    monkeypatch.setattr("teleop_export.work.folders.KEEP_FREE", -100.0)
    session = await record(1200)
    video = await film(session, 1200, segment=100, same_pictures=True, height=480, width=640)
    async with serve() as backend:
        failed = await backend.ended((await backend.ask(session))["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "no_space")
        await backend.leaves_nothing()
        larger = ["mount", "-o", "remount,size=256m", small_disk]
        await asyncio.to_thread(subprocess.run, larger, check=True)
        again, _ = await backend.export(session)
        assert (again["id"], again["numbers"]["frames"]) == (failed["id"], len(video.taken))
        assert again["numbers"]["video_bytes"] > SIZE_BYTES
