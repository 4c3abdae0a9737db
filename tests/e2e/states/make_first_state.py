"""Makes `first.tar.xz`: what the first state of this product left behind, by its own code.

    git worktree add /tmp/first 3886bde && make -C /tmp/first .venv/installed-dev
    /tmp/first/.venv/bin/python tests/e2e/states/make_first_state.py tests/e2e/states/first.tar.xz

Whoever runs it makes other data of the same kind, so `test_upgrade.py` asks `truth.json` what was there.
What lies in the archive:

database.sql   the database, as plain SQL that PostgreSQL 15 to 18 read
store/         what the servers keep: objects, names, an archive, exports, half of two uploads
robot/         spool, outputs, and the agent's memory: sent, half-sent by a killed recorder, and not sent
truth.json     what the services of that time answered about it
frames/        each session's frames, as they gave them out
"""

import argparse
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from first_robot import (
    CAMERAS,
    FPS,
    HALF,
    KEPT,
    NAMES,
    PATIENCE_S,
    PLAIN,
    ROBOT,
    SENT_OF_HALF,
    UNSENT,
    WHOLE,
    Recording,
    record,
    wait_for,
)
from lerobot_backend.postgres import BINARIES, EmbeddedPostgres
from lerobot_robot_backend.stream import read_progress
from teleop_testing.dataset_folders import RowRecorder
from teleop_testing.processes import ServiceProcess, free_port
from teleop_testing.recording import Command, record_command, sync_agent
from teleop_testing.tus import BODY, TUS, metadata_of
from websockets.sync.client import connect

UPLOAD = random.Random(1).randbytes(6000)
SENT_OF_UPLOAD = 2500
JOBS = "SELECT queue_name, status FROM procrastinate_jobs"


class Maker:
    """The servers, and the robot's PC beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool, self.outputs = folder / "robot/spool", folder / "robot/outputs"
        for each in (self.spool, self.outputs, folder / "frames"):
            each.mkdir(parents=True)
        self.postgres = EmbeddedPostgres(folder.parent / "data")
        self.backend = ServiceProcess(
            "lerobot_backend",
            {
                "LEROBOT_BACKEND_DATA_DIR": str(folder.parent / "data"),
                "LEROBOT_BACKEND_BACKUP_DIR": str(folder / "store"),
                "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}",
                "HF_TOKEN": "hf_nobody",
            },
            "LEROBOT_BACKEND_PORT",
        )
        self.truth: dict[str, Any] = {"names": NAMES, "cameras": CAMERAS, "fps": FPS, "sessions": {}}

    @property
    def url(self) -> str:
        return f"ws://{self.backend.address}"

    def get(self, address: str, **options: Any) -> Any:
        answer = httpx.get(f"http://{self.backend.address}{address}", timeout=PATIENCE_S, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, address: str, content: Any = None) -> Any:
        answer = httpx.post(f"http://{self.backend.address}{address}", json=content, timeout=PATIENCE_S)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def psql(self, *words: str) -> None:
        subprocess.run(
            [BINARIES / "psql", "-q", "-o", os.devnull, self.postgres.url(), *words],
            check=True,
            timeout=PATIENCE_S,
        )

    def note_session(self, name: str, number: int, frames: int) -> None:
        """What is told of a session now; where it is archived the frames come from the archive."""
        answer = httpx.get(
            f"http://{self.backend.address}/sessions/{number}/frames", headers={"Accept": "text/csv"}
        )
        (self.folder / "frames" / f"{name}.csv").write_bytes(answer.content)
        self.truth["sessions"][name] = {
            "number": number,
            "frames": frames,
            "session": self.get(f"/sessions/{number}"),
            "ledger": self.get(f"/sessions/{number}/ledger"),
            "videos": self.get(f"/sessions/{number}/videos")["videos"],
        }

    def make(self) -> None:
        with self.backend:
            self.make_old_sessions()
            self.make_whole()
            self.archive()
            self.make_datasets()
            self.make_half()
            self.make_open_upload()
            self.note_datasets()
            self.leave_exports()
        self.dump()

    def make_old_sessions(self) -> None:
        """A session with all that one can have, and one of the plain mode; exported, then archived."""
        kept = Recording("kept", self.url, self.spool)
        kept.client.start_episode("pick the cube")
        kept.log(50)
        kept.client.end_episode("success", note="well done")
        kept.client.lose("the bus was silent", 3)
        kept.client.start_episode("put it down")
        kept.log(40, extra={"force": 1.5})
        kept.client.end_episode("discarded")
        kept.client.mark("here the lamp went out")
        kept.log(KEPT - 93, sent_action={"shoulder.pos": 0.5})
        number = kept.finish()
        self.truth["kept_export"] = self.export(number)
        with connect(f"{self.url}/ws/log/robot_B?fps=60&task=wave") as socket:
            for frame in range(PLAIN):
                joints = {"observation": {"pan.pos": frame + 0.5}, "action": {"pan.pos": frame - 0.5}}
                socket.send(json.dumps(joints))
                while json.loads(socket.recv()).get("next") != frame + 1:
                    pass
        wait_for(lambda: self.get("/sessions/2")["status"] != "recording", "the end of the plain session")
        # Partitions of frames are archived whole, a thousand sessions each.
        self.psql("-c", "SELECT setval(pg_get_serial_sequence('teleop_session', 'id'), 1000, false)")
        self.truth["old"] = {"kept": number, "plain": 2}

    def archive(self) -> None:
        """Let the old ones leave the database."""
        # As if that had been three days ago.
        self.psql(
            "-c",
            "UPDATE teleop_session SET last_commit_at = last_commit_at - interval '3 days' WHERE id < 1000",
        )
        subprocess.run(
            [sys.executable, "-m", "telemetry_service.archive", "run", "--days", "1"],
            env={**os.environ, "DATABASE_URL": self.postgres.url(), "STORE_URL": str(self.folder / "store")},
            check=True,
            timeout=PATIENCE_S,
        )
        self.note_session("kept", self.truth["old"]["kept"], KEPT)
        self.note_session("plain", self.truth["old"]["plain"], PLAIN)
        assert self.truth["sessions"]["kept"]["ledger"]["archived_at"]

    def export(self, *sessions: int, **more: Any) -> Any:
        order = {"session_ids": sessions, "repo_id": "lab/pick", **more}
        export = self.post("/exports", order)

        def made() -> Any:
            now = self.get(f"/exports/{export['id']}")
            assert now["status"] != "failed", now
            return now if now["status"] == "done" else None

        return wait_for(made, "an export")

    def agent(self, ends_with: int) -> None:
        folder = self.folder / "robot"
        with sync_agent(f"http://{self.backend.address}", self.outputs, folder, command="once") as once:
            assert once.wait(PATIENCE_S) == ends_with, once.log.read_text()

    def make_datasets(self) -> None:
        """One with two versions, closed; one that lost its recorder, and was rebuilt by the server."""
        recorder = RowRecorder(self.outputs / "picking")
        recorder.save_episode()
        self.agent(ends_with=1)  # it is being recorded
        recorder.save_episode()
        recorder.finalise()
        self.agent(ends_with=0)
        folder = self.outputs / "torn"
        command = record_command(folder, episodes=9, episode_s=1.0, width=160, height=120)
        with (
            sync_agent(f"http://{self.backend.address}", self.outputs, self.folder / "robot"),
            Command(command, self.folder / "robot", "record") as recording,
        ):
            wait_for(lambda: self.versions_of("torn"), "the backup of an episode")
            recording.kill()
        self.truth["repaired"] = self.post(f"/datasets/{ROBOT}/torn/repair")

    def versions_of(self, dataset: str) -> Any:
        answer = httpx.get(f"http://{self.backend.address}/datasets/{ROBOT}/{dataset}/versions")
        return answer.json()["versions"] if answer.status_code == 200 else []

    def make_whole(self) -> None:
        """A session that is there, a dataset of it, and a push that never got through."""
        whole = Recording("whole", self.url, self.spool)
        whole.client.start_episode()
        whole.log(WHOLE)
        whole.client.end_episode("success")
        number = whole.finish()
        self.truth["export"] = self.export(number, push_to_hub={"private": True})
        self.note_session("whole", number, WHOLE)

    def make_half(self) -> None:
        """A server that goes, then a recorder with its children; and a session of which nobody knows."""
        recorder = subprocess.Popen(
            [sys.executable, __file__, "--record", self.url, str(self.spool)], start_new_session=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert recorder.stdout is not None
        stream_dir = Path(recorder.stdout.readline().strip())
        wait_for(lambda: read_progress(stream_dir).next >= SENT_OF_HALF, "the first frames")
        self.backend.kill()
        assert recorder.stdout.readline()
        killed = subprocess.run(
            ["pgrep", "-f", str(stream_dir)], capture_output=True, text=True, timeout=PATIENCE_S
        ).stdout.split()
        for pid in (recorder.pid, *map(int, killed)):
            os.kill(pid, signal.SIGKILL)
        recorder.wait(PATIENCE_S)
        self.truth["half"] = {"stream": stream_dir.name, "frames": HALF}
        unsent = Recording("unsent", self.url, self.spool, ship=False)
        unsent.log(UNSENT)
        unsent.client.close()
        assert unsent.client.pictures(PATIENCE_S)
        self.truth["unsent"] = {"stream": unsent.client.stream_dir.name, "frames": UNSENT}
        self.backend.start()

    def make_open_upload(self) -> None:
        """Some of a file, by a client of tus."""
        fields = {"robot_id": ROBOT, "dataset": "byhand", "path": "data/file-000.parquet"}
        headers = {**TUS, "Upload-Length": str(len(UPLOAD)), **metadata_of(fields)}
        base = f"http://{self.backend.address}"
        address = httpx.post(f"{base}/files", headers=headers).headers["Location"]
        httpx.patch(base + address, headers={**BODY, "Upload-Offset": "0"}, content=UPLOAD[:SENT_OF_UPLOAD])
        answer = httpx.head(base + address, headers=TUS)
        assert int(answer.headers["Upload-Offset"]) == SENT_OF_UPLOAD
        self.truth["upload"] = {
            "address": address,
            "sent": SENT_OF_UPLOAD,
            "rest": UPLOAD[SENT_OF_UPLOAD:].hex(),
            "sha256": hashlib.sha256(UPLOAD).hexdigest(),
        }

    def note_datasets(self) -> None:
        self.truth["datasets"] = {}
        for dataset in self.get("/datasets")["datasets"]:
            name = dataset["dataset"]
            self.truth["datasets"][name] = [
                {"about": version, "files": self.files_of(name, version["version"])}
                for version in self.versions_of(name)
            ]

    def files_of(self, dataset: str, version: int) -> dict[str, str]:
        """Path -> SHA-256 of what the server gives back."""
        address = f"http://{self.backend.address}/datasets/{ROBOT}/{dataset}/restore?version={version}"
        with tarfile.open(fileobj=io.BytesIO(httpx.get(address, timeout=PATIENCE_S).content)) as tar:
            files = {each.name.partition("/")[2]: tar.extractfile(each) for each in tar if each.isfile()}
            return {path: hashlib.sha256(file.read()).hexdigest() for path, file in files.items() if file}

    def leave_exports(self) -> None:
        """Several that are asked for at once, and the end of the server while it makes the first."""
        number = self.truth["sessions"]["whole"]["number"]
        wanted = [{"format": "parquet"}, {"fps": 15}, {"cameras": ["wrist"]}, {"cameras": []}]
        made = [
            self.post("/exports", {"session_ids": [number], "repo_id": "lab/pick", **more}) for more in wanted
        ]
        wait_for(lambda: self.get(f"/exports/{made[0]['id']}")["status"] != "queued", "a worker")
        self.backend.kill()
        self.truth["left_exports"] = [export["id"] for export in made]

    def dump(self) -> None:
        self.postgres.start()
        jobs = subprocess.run(
            [BINARIES / "psql", "-At", self.postgres.url(), "-c", JOBS],
            check=True, capture_output=True, text=True, timeout=PATIENCE_S,
        ).stdout.split()  # fmt: skip
        print(*jobs)
        assert {"exports|doing", "exports|todo", "pushes|todo"} <= {*jobs}, (
            "once more: the worker was too quick"
        )
        sql = subprocess.run(
            [BINARIES / "pg_dump", "--no-owner", "--no-privileges", self.postgres.url()],
            check=True, capture_output=True, text=True, timeout=PATIENCE_S,
        ).stdout  # fmt: skip
        self.postgres.stop()
        newer = ("SET transaction_timeout", "\\restrict", "\\unrestrict")
        lines = [line for line in sql.splitlines(keepends=True) if not line.startswith(newer)]
        (self.folder / "database.sql").write_text("".join(lines))
        (self.folder / "truth.json").write_text(json.dumps(self.truth, indent=1))


@contextmanager
def stopped_postgres(maker: Maker) -> Iterator[None]:
    """No PostgreSQL of ours stays behind, whatever happens."""
    try:
        yield
    finally:
        maker.postgres.stop()


def of_use(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What belongs into the archive; not what commands have said."""
    path = Path(entry.name)
    return (
        None if (path.parent.name == "robot" and path.suffix == ".log") or path.name == "lerobot" else entry
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--record", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        record(arguments.record[0], Path(arguments.record[1]))
        return
    with tempfile.TemporaryDirectory(prefix="first-state-") as folder:
        # PostgreSQL runs as another account where this is root.
        os.chmod(folder, 0o755)
        maker = Maker(Path(folder) / "first")
        with stopped_postgres(maker):
            maker.make()
        with tarfile.open(arguments.archive, "w:xz", preset=9) as tar:
            tar.add(maker.folder, arcname="first", filter=of_use)
    print(arguments.archive, arguments.archive.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
