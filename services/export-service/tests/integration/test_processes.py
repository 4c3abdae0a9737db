"""The service as a process: killed, and called by its command line."""

import asyncio
import os
import signal
import sys
import time
from itertools import pairwise

import av
import httpx
import pyarrow.parquet as pq
import pytest
from teleop_dataset.v3.labels import COLUMNS
from teleop_dataset.verify import verify
from teleop_dataset.verify_written import verify_written
from teleop_testing.backends.processes import ServiceProcess, own_postgres
from teleop_testing.waiting import PATIENCE_S

FRAMES = 300_000
# Shares of the time that an export takes.
KILLED_AT = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


@pytest.fixture
def process(database_url, tmp_path):
    """export-service as a process of its own, not yet started."""
    environment = {
        "DATABASE_URL": database_url,
        "EXPORT_ROOT": str(tmp_path / "exports"),
        "STORE_URL": str(tmp_path / "store"),
    }
    return ServiceProcess("teleop_export", environment, "EXPORT_PORT")


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.02)


async def begin(http, process, session):
    """Address of an export that is being made."""
    body = {"session_ids": [session], "repo_id": "lab/pick"}
    asked = await http.post(f"http://{process.address}/exports", json=body)
    url = f"http://{process.address}/exports/{asked.json()['id']}"

    async def begun():
        return (await http.get(url)).json()["progress"]

    assert await until(begun)
    return url


async def ended(http, url):
    """The export once it is neither queued nor running."""

    async def look():
        answer = await http.get(url)
        found = answer.json() if answer.status_code == 200 else {"status": "running"}
        return found if found["status"] not in ("queued", "running") else None

    return await until(look)


def episodes():
    return list(pairwise(range(0, FRAMES + 1, 300)))


async def test_killed_export_is_finished_after_the_restart(process, record, tmp_path):
    """kill -9 in the middle: nothing half-done is ever seen, and the next process makes it anew."""
    session = await record(FRAMES, episodes=episodes())
    root = tmp_path / "exports"
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        with process:
            url = await begin(http, process, session)
            process.kill()
            assert [path.name for path in root.iterdir()] == [".building"]
            assert list((root / ".building").iterdir())
            process.start()
            export = await ended(http, url)
            assert (export["status"], export["numbers"]["frames"]) == ("done", FRAMES)

            async def swept():
                return not list((root / ".building").iterdir())

            assert await until(swept)
    (folder,) = root.glob("export-*")
    assert pq.read_table(folder / "data", columns=["index"]).num_rows == FRAMES


async def test_killed_while_video_is_copied(process, record, film, tmp_path):
    """kill -9 with half-written video: the next process makes the export anew, whole."""
    session = await record(3000, episodes=list(pairwise(range(0, 3001, 300))))
    await film(session, 3000, height=240, width=320)
    root = tmp_path / "exports"
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        with process:
            body = {"session_ids": [session], "repo_id": "lab/pick"}
            asked = await http.post(f"http://{process.address}/exports", json=body)
            url = f"http://{process.address}/exports/{asked.json()['id']}"

            async def copying():
                return list((root / ".building").rglob("*.mp4"))

            assert await until(copying)
            process.kill()
            assert [path.name for path in root.iterdir()] == [".building"]
            process.start()
            export = await ended(http, url)
            assert (export["status"], export["numbers"]["frames"]) == ("done", 1500)

            async def swept():
                return not list((root / ".building").iterdir())

            assert await until(swept)
    (folder,) = root.glob("export-*")
    (path,) = (folder / "videos").rglob("*.mp4")
    with av.open(str(path)) as file:
        assert file.streams.video[0].frames == 1500
    assert not [each for each in folder.rglob("*") if each.name.startswith(".")]


@pytest.mark.long("an export, seven times")
async def test_killed_at_any_moment_with_video(process, record, film, tmp_path):
    """kill -9 at moments spread over the whole making: what can be seen is whole, in the end it is there."""
    session = await record(6000, episodes=list(pairwise(range(0, 6001, 600))))
    await film(session, 6000, height=240, width=320, same_pictures=True)
    root = tmp_path / "exports"

    def published():
        folders = list(root.glob("export-*"))
        for folder in folders:
            verify(folder, frames=3000, advance=lambda done, total: None)
            verify_written(folder, labels=COLUMNS, single_precision=True)
        return folders

    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        body = {"session_ids": [session], "repo_id": "lab/pick"}
        with process:
            url, took_s = "", 0.0
            for share in (None, *KILLED_AT):
                if url:
                    await http.delete(url)
                begun = time.monotonic()
                asked = await http.post(f"http://{process.address}/exports", json=body)
                url = f"http://{process.address}/exports/{asked.json()['id']}"
                if share is not None:
                    await asyncio.sleep(share * took_s)
                    process.kill()
                    assert len(published()) <= 1
                    process.start()
                export = await ended(http, url)
                took_s = took_s or time.monotonic() - begun
                assert (export["status"], export["numbers"]["frames"]) == ("done", 3000)
                assert len(published()) == 1


async def test_worker_alone_finishes_what_the_service_began(process, record, database):
    """`python -m teleop_export.worker` needs no service beside it."""
    session = await record(FRAMES, episodes=episodes())
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        with process:
            await begin(http, process, session)
            process.kill()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "teleop_export.worker", env=process.environment
    )

    async def done():
        return await database.value("SELECT status FROM export") == "done"

    try:
        assert await until(done)
    finally:
        worker.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await worker.wait() == 0


async def test_service_leaves_the_work_to_workers(process, record):
    """With EXPORT_WORK_HERE off nothing is made until a worker process runs; then it is."""
    process.environment["EXPORT_WORK_HERE"] = "false"
    session = await record(300)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        with process:
            body = {"session_ids": [session], "repo_id": "lab/pick"}
            asked = await http.post(f"http://{process.address}/exports", json=body)
            url = f"http://{process.address}/exports/{asked.json()['id']}"
            await asyncio.sleep(2.0)
            assert (await http.get(url)).json()["status"] == "queued"
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "teleop_export.worker", env=process.environment
            )
            assert (await ended(http, url))["status"] == "done"
            worker.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await worker.wait() == 0


async def test_export_outlives_the_database(record_elsewhere, tmp_path):
    """PostgreSQL dies in the middle: the export is made once it is back."""
    with own_postgres() as postgres:
        session = await record_elsewhere(postgres.url())(FRAMES, episodes=episodes())
        environment = {
            "DATABASE_URL": postgres.url(),
            "EXPORT_ROOT": str(tmp_path),
            "STORE_URL": str(tmp_path / "store"),
        }
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            with ServiceProcess("teleop_export", environment, "EXPORT_PORT") as process:
                url = await begin(http, process, session)
                await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
                answer = await http.get(url)
                assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
                await asyncio.to_thread(postgres.start)
                export = await ended(http, url)
                assert (export["status"], export["numbers"]["frames"]) == ("done", FRAMES)


async def run_cli(*words, **environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "teleop_client.exporting.cli", *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_command_line(backend, record, tmp_path):
    """One command from a recorded session to a dataset where LeRobot looks for it."""
    session = await record(300, episodes=[(0, 100), (100, 200, None, "discarded")], gaps=[(250, 260, "lost")])
    words = ("--session_id", session, "--repo_id", "lab/pick")
    environment = {
        "LEROBOT_BACKEND_URL": str(backend.http.base_url).replace("http", "ws"),
        "HF_LEROBOT_HOME": str(tmp_path / "home"),
    }
    status, out, err = await run_cli(*words, **environment)
    assert (status, err.count("done")) == (0, 4), err
    assert f"1 episode, 100 frames at 60 fps in {tmp_path / 'home' / 'lab' / 'pick'}" in out
    assert "episode 1: frames 100 to 199: discarded" in out
    assert 'LeRobotDataset("lab/pick")' in out
    assert pq.read_table(tmp_path / "home/lab/pick/data").num_rows == 100
    assert [path.name for path in (tmp_path / "home/lab").iterdir()] == ["pick"]
    status, _, err = await run_cli(*words, "--root", "/proc/pick", **environment)
    assert (status, "/proc" in err, "Traceback" in err) == (1, True, False), err
    status, _, err = await run_cli(*words, **environment)
    assert status == 1
    assert "already exists" in err


async def test_command_line_fetches_recordings_as_they_are(backend, record, film, tmp_path):
    """As MCAP with the video, as Parquet; what is for datasets alone is refused as over HTTP."""
    session = await record(60, episodes=[(0, 30), (30, 60, None, "discarded")])
    await film(session, 60)
    url = str(backend.http.base_url)
    words = ("--session_id", session, "--repo_id", "lab/pick", "--backend_url", url)
    for form in ("mcap", "parquet"):
        root = tmp_path / form
        status, out, err = await run_cli(*words, "--format", form, "--root", root)
        assert status == 0, err
        assert f"60 frames in {root}" in out
        assert "LeRobotDataset" not in out
        assert list(root.rglob(f"*.{form}"))
    status, _, err = await run_cli(*words, "--format", "mcap", "--fps", 10, "--root", tmp_path / "no")
    assert status == 1
    assert "fps applies to datasets" in err


async def test_command_line_tells_what_the_backend_says(backend, record, tmp_path):
    """The problem's detail, field and hint, in its status whether to come back; nothing is left behind."""
    session = await record(10, status="recording")
    url = str(backend.http.base_url)
    words = ("--session_id", session, "--repo_id", "lab/pick", "--root", tmp_path / "dataset")
    status, out, err = await run_cli(*words, "--backend_url", url)
    assert (status, out) == (75, "")
    assert f"error: session {session} is still being recorded (--session_id)" in err
    assert "hint: " in err
    assert not (tmp_path / "dataset").exists()
    status, _, err = await run_cli(*words, "--backend_url", "http://127.0.0.1:1")
    assert status == 75
    assert "cannot reach the backend: http://127.0.0.1:1: Connection refused" in err
