"""Services as processes of their own, started and killed by tests and benchmarks."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from teleop_backend.postgres import EmbeddedPostgres
from teleop_schema.migrate import migrate

from teleop_testing.waiting import PATIENCE_S


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, given to nobody else while this process lives.

    It is below those that the kernel gives to connections: one of those could be taken by any connection
    while a service that keeps it is down. Whoever was given a port holds the UDP port of the same number,
    which no service uses.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_768)
        with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as held:
            try:
                held.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            held.detach()  # until this process ends
        return port


class ServiceProcess:
    """`python -m module` with an environment, on a port it keeps over restarts.

    port_variable  environment variable that tells the service its port
    """

    def __init__(self, module: str, environment: Mapping[str, str], port_variable: str) -> None:
        self.module = module
        self.port = free_port()
        self.environment = {**os.environ, **environment, port_variable: str(self.port)}
        self.log = Path(tempfile.mkstemp(prefix=f"{module}-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`, the same over restarts."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`, or with https if that is set."""
        return f"{'https' if 'LEROBOT_BACKEND_TLS' in self.environment else 'http'}://{self.address}"

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Return once the service is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module], env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.module} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE_S)

    def _ready(self) -> bool:
        try:
            # Its certificate is made while it starts; whoever tests that looks at it.
            answer = httpx.get(f"{self.url}/readyz", timeout=PATIENCE_S, verify=False)
            return answer.status_code == 200
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self.log.unlink()


class WorkerProcess(ServiceProcess):
    """An export worker without the service around it: it listens nowhere."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("teleop_export.worker", environment, "EXPORT_PORT")

    def _ready(self) -> bool:
        """Whether everything is loaded, so that it takes SIGTERM as it should."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def whole_backend(folder: str | Path, **settings: str) -> ServiceProcess:
    """The one-process default with its data and files below `folder`, not yet started."""
    environment = {
        "LEROBOT_BACKEND_DATA_DIR": f"{folder}/data",
        "LEROBOT_BACKEND_BACKUP_DIR": f"{folder}/backup",
        **settings,
    }
    return ServiceProcess("teleop_backend", environment, "LEROBOT_BACKEND_PORT")


def telemetry_process(database_url: str, module: str = "teleop_telemetry") -> ServiceProcess:
    """telemetry-service (or a `module` that takes its place) as a process, not yet started."""
    return ServiceProcess(module, {"DATABASE_URL": database_url}, "TELEMETRY_PORT")


def ingest_process(
    database_url: str, store_url: str | Path, module: str = "teleop_video_ingest"
) -> ServiceProcess:
    """video-ingest-service (or a `module` that takes its place) as a process, not yet started."""
    environment = {"DATABASE_URL": database_url, "STORE_URL": str(store_url)}
    return ServiceProcess(module, environment, "INGEST_PORT")


def export_process(database_url: str, store_url: str | Path, root: Path) -> ServiceProcess:
    """export-service, which makes its exports itself and publishes them below `root`, not yet started."""
    return ServiceProcess("teleop_export", _exporting(database_url, store_url, root), "EXPORT_PORT")


def export_worker(database_url: str, store_url: str | Path, root: Path) -> WorkerProcess:
    """An export worker as a process of its own, beside the service or alone, not yet started. On Linux."""
    return WorkerProcess(_exporting(database_url, store_url, root))


def _exporting(database_url: str, store_url: str | Path, root: Path) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "STORE_URL": str(store_url), "EXPORT_ROOT": str(root)}


@contextmanager
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A migrated PostgreSQL that a test or benchmark may hurt, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="teleop-postgres-") as folder:
        server = EmbeddedPostgres(Path(folder), settings={"max_connections": "200"})
        server.start()
        try:
            migrate(server.url())
            yield server
        finally:
            server.stop()
