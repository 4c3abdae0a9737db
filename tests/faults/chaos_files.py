"""A sync-agent beside recordings that go on while it uploads them, and what may hurt them and the server."""

import json
import os
import random
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import asyncpg
import httpx
from chaos_line import Line
from chaos_robots import Faults, freeze, kill, stop
from file_accounts import Stored, check_dataset
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.dataset_folders import RowRecorder
from teleop_testing.datasets.files import encode_video
from teleop_testing.datasets.recording import sync_agent
from teleop_testing.waiting import PATIENCE_S, wait_for

ROBOT_ID = "robot_A"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
# At which an upload of a video lasts about as long as a fault.
BANDWIDTH = "500KB"
PADDING_BYTES = (50_000, 300_000)
MAX_OPEN = 3
UPLOAD_BEGINS_S = 1.0
MAX_CUT_BYTES = 200_000

RECEIVED = """
SELECT dataset.name || '/' || path AS path, sha256
  FROM dataset_file JOIN dataset ON dataset.id = dataset_id WHERE robot_id = $1
"""


class Files:
    """Recordings, the agent that backs them up, and the service that it brings them to.

    hits  how many faults came while bytes of a file were arriving
    """

    def __init__(
        self, stack: ExitStack, line: Line, folder: Path, service: ServiceProcess, stored: Stored,
        chance: random.Random,
    ) -> None:  # fmt: skip
        """`folder`: of the robot PC, with its spool."""
        self.hits = 0
        self.watched = folder / "outputs"
        self.watched.mkdir()
        self._scratch = folder / "scratch.mp4"
        self._line = line
        self._service = service
        self._chance = chance
        self._stored = stored
        self._video = encode_video(8, width=320, height=240, seed=chance.randrange(2**32))
        self._open: list[RowRecorder] = []
        self._closed: list[Path] = []
        self._record()
        url = f"http://127.0.0.1:{line.port}"
        self.agent = stack.enter_context(
            sync_agent(url, self.watched, folder, "--bandwidth", BANDWIDTH, robot_id=ROBOT_ID)
        )

    def faults(self) -> Faults:
        whole: dict[str, Callable[[], None]] = {
            "kill agent": self._kill_agent,
            "stop agent": self._stop_agent,
            "freeze agent": lambda: freeze(self.agent.pid, self._chance),
            "kill ingest": lambda: kill(self._service, self._chance),
            "stop ingest": lambda: stop(self._service),
            "freeze ingest": lambda: freeze(self._service.pid, self._chance),
            "cut upload": self._cut_upload,
            "replace file": self._replace,
            "rewrite file": self._rewrite,
        }
        return {name: partial(self._while_uploading, fault) for name, fault in whole.items()}

    def receipts(self) -> list[tuple[str, str]]:
        """(path, SHA-256) of all that the agent calls stored now."""
        found = []
        for path in (self.watched / ".uploaded").glob("*/**/*.json"):
            try:
                receipt = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue  # its file has just changed
            found.append((receipt["path"], receipt["sha256"]))
        return found

    async def check_receipts(self, told: list[tuple[str, str]], connection: asyncpg.Connection) -> None:
        """Raise AssertionError if the server does not hold, whole, what `receipts` told of."""
        received = {(row["path"], row["sha256"]) for row in await connection.fetch(RECEIVED, ROBOT_ID)}
        for path, sha256 in told:
            assert (path, sha256) in received, f"{path} is called stored, the server does not know it"
            self._stored.check(path, sha256)

    def account(self) -> int:
        """Close the recordings, wait until the server has them, compare every byte; how many datasets."""
        for recorder in self._open:
            recorder.finalise()
        self._closed += [recorder.folder for recorder in self._open]
        self._open = []
        with httpx.Client(base_url=f"http://{self._service.address}", timeout=PATIENCE_S) as http:
            for folder in self._closed:
                check_dataset(http, ROBOT_ID, folder, self._stored, self.agent.log)
        self.agent.terminate()
        assert self.agent.wait(PATIENCE_S) == 0, self.agent.log.read_text()[-2000:]
        return len(self._closed)

    def _while_uploading(self, fault: Callable[[], None]) -> None:
        """Have something new to upload, and let the fault come while a file arrives, if one soon does."""
        self._record()
        before = self._incoming_bytes()
        with suppress(AssertionError):  # whatever the agent is doing else, it may be hurt there, too
            wait_for(lambda: self._incoming_bytes() != before, patience_s=UPLOAD_BEGINS_S)
            self.hits += 1
        fault()

    def _record(self) -> None:
        """An episode more, of a new dataset or of one that is open; or one of these is closed."""
        what = self._chance.choice(["begin", "begin", "save", "close"])
        if (what == "begin" and len(self._open) < MAX_OPEN) or not self._open:
            folder = self.watched / f"dataset_{len(self._open) + len(self._closed)}"
            self._write(folder / VIDEO)
            self._open.append(RowRecorder(folder))
            self._open[-1].save_episode()
        elif what == "save":
            self._chance.choice(self._open).save_episode()
        else:
            recorder = self._open.pop(self._chance.randrange(len(self._open)))
            recorder.finalise()
            self._closed.append(recorder.folder)

    def _replace(self) -> None:
        """As LeRobot does after each episode: another, longer file is moved over a video."""
        self._write(self._chance.choice(self._folders()) / VIDEO)

    def _rewrite(self) -> None:
        """As it does where the two are on different file systems: in place, and for a moment half written."""
        path = self._chance.choice(self._folders()) / VIDEO
        content = self._content()
        with path.open("wb") as file:
            file.write(content[: self._chance.randrange(len(content))])
            file.flush()
            time.sleep(self._chance.uniform(0, 0.5))
            file.seek(0)
            file.write(content)

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._scratch.write_bytes(self._content())
        os.replace(self._scratch, path)

    def _content(self) -> bytes:
        """A video that no other file equals: behind it lies a box that players skip."""
        padding = self._chance.randbytes(self._chance.randint(*PADDING_BYTES))
        return self._video + struct.pack(">I4s", 8 + len(padding), b"free") + padding

    def _folders(self) -> list[Path]:
        return [*self._closed, *(recorder.folder for recorder in self._open)]

    def _kill_agent(self) -> None:
        self.agent.kill()
        time.sleep(self._chance.uniform(0, 0.5))
        self.agent.start()

    def _stop_agent(self) -> None:
        self.agent.terminate()
        self.agent.wait(PATIENCE_S)
        self.agent.start()

    def _cut_upload(self) -> None:
        self._line.cut_after(self._chance.randint(1, MAX_CUT_BYTES))
        deadline_s = time.monotonic() + UPLOAD_BEGINS_S
        while self._line.is_cut_due and time.monotonic() < deadline_s:
            time.sleep(0.01)

    def _incoming_bytes(self) -> int:
        """Bytes of files that are on their way, in the store."""
        size_bytes = 0
        for path in (self._stored.root / ".incoming").iterdir():
            try:
                size_bytes += path.stat().st_size
            except FileNotFoundError:
                continue
        return size_bytes
