"""An admin erases a session and a dataset for good: nothing of them is left, and the robot hears why."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.spool.erased import read_erased
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from psycopg import sql
from teleop_backend.postgres import EmbeddedPostgres
from teleop_schema.session import Camera
from teleop_testing.backends.database import Database
from teleop_testing.backends.processes import (
    ServiceProcess,
    export_process,
    ingest_process,
    telemetry_process,
)
from teleop_testing.datasets.dataset_folders import make_dataset
from teleop_testing.datasets.files import encode_video
from teleop_testing.datasets.recorded import record_session
from teleop_testing.waiting import PATIENCE_S, until, wait_for

JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}
FRAMES = 60
RIGHTS = Path(__file__).parents[2] / "deploy/setup/rights.sql"
ROLES = ("telemetry", "ingest", "export")
PROGRAMS = Path(sys.executable).parent
WITH_SESSION = """
SELECT c.table_name, c.column_name FROM information_schema.columns c
  JOIN information_schema.tables t USING (table_schema, table_name)
 WHERE t.table_type = 'BASE TABLE' AND t.table_schema = 'public' AND t.table_name <> 'erasure'
   AND (c.column_name = 'session_id' OR t.table_name = 'teleop_session' AND c.column_name = 'id')
"""


@dataclass
class Site:
    """A backend, and a robot PC beside it."""

    backend: ServiceProcess
    server: Path
    robot: Path

    def ask(self, method: str, address: str, **more: Any) -> Any:
        answer = httpx.request(method, f"http://{self.backend.address}{address}", timeout=PATIENCE_S, **more)
        assert answer.status_code < 400, answer.text
        return answer.json()

    def record(self, first_picture: int) -> Path:
        """The folder of a session's stream; nothing of it has been sent yet."""
        client = TelemetryClient(
            f"ws://{self.backend.address}", "robot_A", state_names=tuple(JOINTS), action_names=tuple(JOINTS),
            fps=30, cameras={"front": Camera(96, 128, 30.0)}, spool_dir=self.robot / "spool", ship=False,
            min_free_bytes=0,
        )  # fmt: skip
        for frame in range(first_picture, first_picture + FRAMES):
            client.log(JOINTS | {"front": render("front", REST, frame, height=96, width=128)}, JOINTS)
        client.close()
        return client.stream_dir

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.backend.environment}
        environment["LEROBOT_BACKEND_SPOOL"] = str(self.robot / "spool")
        return subprocess.run(
            [PROGRAMS / program, *words], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )

    def agent(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        memory = ["--robot-id", "robot_A", "--state-dir", str(self.robot / "state")]
        return self.run("sync-agent", command, *memory, *options)

    def once(self) -> subprocess.CompletedProcess[str]:
        address = f"http://{self.backend.address}"
        return self.agent("once", "--backend_url", address, "--watch", str(self.robot / "outputs"))

    def export(self, *sessions: int) -> int:
        wanted = {"repo_id": "me/all", "session_ids": list(sessions)}
        made = self.ask("POST", "/exports", json=wanted)["id"]
        wait_for(lambda: self.ask("GET", f"/exports/{made}")["status"] == "done")
        number: int = made
        return number

    def erased(self, erasure: int) -> dict[str, Any] | None:
        told: dict[str, Any] = self.ask("GET", f"/erasures/{erasure}")
        return told if told["status"] == "erased" else None

    def rows_of(self, session: int) -> dict[str, int]:
        """Tables with rows of the session."""
        found = {}
        with psycopg.connect(EmbeddedPostgres(self.server / "data").url()) as connection:
            for table, column in connection.execute(WITH_SESSION).fetchall():
                query = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
                    sql.Identifier(table), sql.Identifier(column)
                )
                row = connection.execute(query, [session]).fetchone()
                if row and row[0]:
                    found[table] = row[0]
        return found

    def traces(self, *words: str) -> list[str]:
        """Files on the server that have one of the words in their name or content, or as their hash."""
        found = []
        for path in (self.server / "backup").rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                told = str(path).encode() + content + hashlib.sha256(content).hexdigest().encode()
                found += [f"{word} in {path}" for word in words if word.encode() in told]
        return found


@contextmanager
def apart(database_url: str, folder: Path) -> Iterator[list[ServiceProcess]]:
    """The services as processes of their own, each with its role, which may do what the stack lets it do."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for role in ROLES:
            with suppress(psycopg.errors.DuplicateObject):
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute(RIGHTS.read_bytes())
    urls = [re.sub("//[^@]*@", f"//{role}@", database_url) for role in ROLES]
    store = str(folder / "store")
    telemetry = telemetry_process(urls[0])
    telemetry.environment["STORE_URL"] = store
    services = [telemetry, ingest_process(urls[1], store), export_process(urls[2], store, folder / "exports")]
    with ExitStack() as stack:
        yield [stack.enter_context(service) for service in services]


async def test_services_with_a_role_each_erase_together(database_url: str, database: Database) -> None:
    """As in the containers: nobody may do more than its share, and the erasure waits for who is away."""
    session = record_session(database_url, 120, episodes=[(0, 100)])
    with tempfile.TemporaryDirectory(prefix="apart-") as name, apart(database_url, Path(name)) as services:
        telemetry, ingest, export = services
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            about = {
                "robot_id": "robot_A",
                "session": str(session),
                "camera_key": "front",
                "chunk_index": "0",
            }
            times = {"start_timestamp": "2026-01-05T10:00:00Z", "end_timestamp": "2026-01-05T10:00:01Z"}
            film = {"data": about | times, "files": {"file": encode_video(30)}}
            assert (await http.post(f"{ingest.url}/upload/video", **film)).status_code == 201
            wanted = {"repo_id": "me/x", "session_ids": [session], "cameras": []}
            asked = await http.post(f"{export.url}/exports", json=wanted)
            assert asked.status_code == 202, asked.text
            ingest.stop()
            erasure = await http.post(f"{telemetry.url}/erasures", json={"session_id": session})

            async def told() -> dict[str, Any]:
                answer = await http.get(f"{telemetry.url}/erasures/{erasure.json()['id']}")
                return {each["service"]: each for each in answer.json()["services"]}

            async def done(service: str) -> bool:
                return (await told())[service]["done_at"] is not None

            await until(lambda: done("export-service"))
            assert not await done("telemetry-service")
            assert await database.value("SELECT count(*) FROM teleop_frame") == 120
            ingest.start()
            await until(lambda: done("telemetry-service"))
            removed = {service: each["removed"] for service, each in (await told()).items()}
            assert removed == {
                "export-service": {"exports": 1},
                "video-ingest-service": {"video_chunks": 1, "objects": 1},
                "telemetry-service": {"frames": 120, "episodes": 1, "sessions": 1},
            }
            assert await database.value("SELECT count(*) FROM stored_object") == 0
            assert not list((Path(name) / "exports").glob("export-*"))


@pytest.fixture
def site(backend: ServiceProcess, tmp_path: Path) -> Site:
    """Two sessions with video and a dataset are backed up."""
    server = Path(backend.environment["LEROBOT_BACKEND_DATA_DIR"]).parent
    site = Site(backend, server, tmp_path)
    site.record(0)
    site.record(1000)
    make_dataset(tmp_path / "outputs/picking")
    wait_for(lambda: site.once().returncode == 0)
    return site


def test_nothing_is_left_and_nothing_comes_back(site: Site) -> None:
    """A command erases a session, a request a dataset, the backend is killed; then the robot comes back."""
    session, other = sorted(each["id"] for each in site.ask("GET", "/sessions")["sessions"])
    about = site.ask("GET", f"/sessions/{session}")
    hashes = [video["sha256"] for video in site.ask("GET", f"/sessions/{session}/videos")["videos"]]
    assert hashes
    files = site.ask("GET", "/datasets/robot_A/picking")["files"]
    hashes += [each["sha256"] for each in files]
    both, alone = site.export(session, other), site.export(other)
    assert site.traces(*hashes)

    done = site.run("lerobot-backend", "erase", "session", str(session), "--yes")
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} frames" in done.stdout
    assert "1 export" in done.stdout
    assert f"downloads of export {both}" in done.stdout
    asked = site.ask("POST", "/erasures", json={"robot_id": "robot_A", "dataset": "picking"})
    site.backend.kill()
    site.backend.start()
    wait_for(lambda: site.erased(asked["id"]))

    def nothing_is_left() -> None:
        assert site.rows_of(session) == {}
        assert site.traces(*hashes, f"sessions/{session}/") == []
        # What was erased is noted, and nothing else names it.
        (note,) = site.traces(about["stream_id"])
        assert note.endswith(f".archive/.notes/erasures/streams/{about['stream_id']}")
        assert [each["id"] for each in site.ask("GET", "/sessions")["sessions"]] == [other]
        assert site.ask("GET", "/datasets")["datasets"] == []
        assert site.rows_of(other)["teleop_frame"] == FRAMES
        assert [each["id"] for each in site.ask("GET", "/exports")["exports"]] == [alone]

    nothing_is_left()
    site.once()
    nothing_is_left()
    (stream_dir,) = [each for each in (site.robot / "spool/robot_A").iterdir() if read_erased(each)]
    assert stream_dir.name == about["stream_id"]
    assert list(stream_dir.glob("frames-*.seg"))
    told = site.agent("status").stdout
    assert f"session {session} was erased for good by command line on" in told
    assert f"rm -r {stream_dir}" in told
    assert "dataset 'picking' of robot 'robot_A' was erased for good by this machine" in told
    actions = [(each["action"], each["subject"]) for each in site.ask("GET", "/audit")["changes"]]
    assert ("erase", f"session {session} of robot_A") in actions
    assert ("erase", "dataset picking of robot_A") in actions


def test_a_restored_database_erases_again(site: Site) -> None:
    """The copy of the database is older than the erasure: what it brings back goes again."""
    session = min(each["id"] for each in site.ask("GET", "/sessions")["sessions"])
    site.backend.stop()
    subprocess.run(["cp", "-a", site.server / "data", site.server / "older"], check=True, timeout=PATIENCE_S)
    site.backend.start()
    asked = site.ask("POST", "/erasures", json={"session_id": session})
    before = wait_for(lambda: site.erased(asked["id"]))
    site.backend.stop()
    (site.server / "data").rename(site.server / "lost")
    (site.server / "older").rename(site.server / "data")
    site.backend.start()

    def again() -> Any:
        found = site.ask("GET", "/erasures")["erasures"]
        return found[0] if found and found[0]["status"] == "erased" else None

    after = wait_for(again)
    assert site.rows_of(session) == {}
    assert (after["session_id"], after["asked_at"]) == (session, before["asked_at"])
    (frames,) = [each["removed"]["frames"] for each in after["services"] if "frames" in each["removed"]]
    assert frames == FRAMES
