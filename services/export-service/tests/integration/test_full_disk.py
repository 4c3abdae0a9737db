"""A disk that is full, or becomes so."""

import asyncio
import subprocess

import pytest
from teleop_testing.machine.disks import disk_of
from teleop_testing.waiting import until

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


async def waits(backend, export_id: int) -> dict:
    """The export once it waits for room."""

    async def told() -> dict | None:
        export = (await backend.http.get(f"/exports/{export_id}")).json()
        assert export["status"] in ("queued", "running"), export
        return export if export["waits_for"] else None

    export = await until(told)
    assert export["waits_for"]["code"] == "no_space"
    assert "free some space" in export["waits_for"]["hint"]
    return export


async def enlarge(disk) -> None:
    larger = ["mount", "-o", "remount,size=256m", disk]
    await asyncio.to_thread(subprocess.run, larger, check=True)


@pytest.mark.parametrize("format", ["lerobot-v3.0", "parquet", "mcap"])
async def test_disk_that_fills_up_is_waited_for(small_disk, serve, record, monkeypatch, format):
    """With nothing left and nothing half published; the export is made by itself once there is room."""
    monkeypatch.setattr("teleop_export.work.folders.KEEP_FREE", -100.0)
    session = await record(FRAMES)
    async with serve() as backend:
        export_id = (await backend.ask(session, format=format))["id"]
        await waits(backend, export_id)
        report = (await backend.http.get(f"/exports/{export_id}/report.txt")).text
        assert f"waiting: the disk of {small_disk} became full; free some space" in report
        await backend.leaves_nothing()
        await enlarge(small_disk)
        made = await backend.ended(export_id)
        assert (made["status"], made["waits_for"], made["numbers"]["frames"]) == ("done", None, FRAMES)


async def test_disk_that_fills_up_with_video_is_waited_for(small_disk, serve, record, film, monkeypatch):
    """Too, in the middle of a copied mp4."""
    monkeypatch.setattr("teleop_export.work.folders.KEEP_FREE", -100.0)
    session = await record(1200)
    video = await film(session, 1200, segment=100, same_pictures=True, height=480, width=640)
    async with serve() as backend:
        export_id = (await backend.ask(session))["id"]
        await waits(backend, export_id)
        await backend.leaves_nothing()
        await enlarge(small_disk)
        made = await backend.ended(export_id)
        assert (made["status"], made["numbers"]["frames"]) == ("done", len(video.taken))
        assert made["numbers"]["video_bytes"] > SIZE_BYTES


async def test_a_disk_that_is_full_again_and_again_fails_the_export(small_disk, serve, record, monkeypatch):
    """By name, after a number of attempts; the same request succeeds once there is room."""
    monkeypatch.setattr("teleop_export.work.folders.KEEP_FREE", -100.0)
    monkeypatch.setattr("teleop_export.tables.export_table.MAX_ATTEMPTS", 1)
    session = await record(FRAMES)
    async with serve() as backend:
        failed = await backend.ended((await backend.ask(session))["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "no_space")
        assert "request it again" in failed["error"]["hint"]
        await backend.leaves_nothing()
        await enlarge(small_disk)
        again, _ = await backend.export(session)
        assert (again["id"], again["numbers"]["frames"]) == (failed["id"], FRAMES)


async def test_nothing_is_begun_without_room(small_disk, serve, record, monkeypatch):
    """A disk that others have filled since the request is not filled to its last byte; then it is made."""
    session = await record(30)
    monkeypatch.setattr("teleop_export.work.jobs.ROOM_AGAIN_S", 1)
    async with serve(work_here=False) as backend:
        export_id = (await backend.ask(session))["id"]
    (small_disk / "others").write_bytes(bytes(SIZE_BYTES - 32 * 1024))
    async with serve() as backend:
        export = await waits(backend, export_id)
        assert "but the disk has room for" in export["waits_for"]["detail"]
        (small_disk / "others").unlink()
        assert (await backend.ended(export_id))["status"] == "done"
