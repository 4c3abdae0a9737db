"""The real compose.yaml as a project of its own, driven from outside."""

import asyncio
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker
import httpx
import psycopg
from docker.models.containers import Container
from teleop_testing.waiting import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
COMPOSE_OF_OUR_OWN = REPOSITORY / ".compose/bin/docker-compose"
SERVICES = (
    "proxy",
    "telemetry-service",
    "video-ingest-service",
    "export-service",
    "export-worker",
    "postgres",
)

# Everything that is recorded, as one number per table: how many rows, and the hash of them all in order.
CONTENTS = """
SELECT json_object_agg(name, contents) FROM (
  VALUES ('teleop_session', (SELECT array[count(*)::text, md5(string_agg(s::text, '' ORDER BY id))]
                               FROM teleop_session s)),
         ('teleop_frame', (SELECT array[count(*)::text,
                                        md5(string_agg(f::text, '' ORDER BY session_id, frame_index))]
                             FROM teleop_frame f)),
         ('episode', (SELECT array[count(*)::text,
                                md5(string_agg(e::text, '' ORDER BY session_id, episode_index))]
                        FROM episode e)),
         ('video_chunk', (SELECT array[count(*)::text, md5(string_agg(v::text, '' ORDER BY id))]
                            FROM video_chunk v)),
         ('export', (SELECT array[count(*)::text, md5(string_agg(e::text, '' ORDER BY id))] FROM export e))
) AS tables(name, contents)
"""
# Frames that are not exactly those that their robot was told are safe.
DEFECTS = """
SELECT count(*) FROM (
  SELECT s.id FROM teleop_session s LEFT JOIN teleop_frame f ON f.session_id = s.id
   WHERE s.stream_id = ANY(string_to_array('{streams}', ',')::uuid[])
   GROUP BY s.id
  HAVING NOT (s.status = 'complete' AND s.logged_frames = s.next_frame_index
              AND count(f.*) = s.next_frame_index AND count(DISTINCT f.frame_index) = s.next_frame_index
              AND min(f.frame_index) = 0 AND max(f.frame_index) = s.next_frame_index - 1
              AND bool_and(f.state = ARRAY[f.frame_index, f.frame_index + 0.25]::real[]))) AS wrong
"""


def compose_command() -> list[str]:
    """How docker compose is called on this machine."""
    if "COMPOSE" in os.environ:
        return shlex.split(os.environ["COMPOSE"])
    plugin = (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    )
    return ["docker", "compose"] if plugin else [str(COMPOSE_OF_OUR_OWN)]


def ip_address(container: Container, network: str) -> str:
    """Where this machine reaches a container itself, whether or not it publishes a port. On Linux.

    To start a program within it for each question would take a thousand times as much of the processor.
    """
    container.reload()
    address: str = container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
    return address


def is_open(database: str) -> bool:
    """Whether a database of this machine or of a container lets one in yet."""
    try:
        psycopg.connect(database).close()
    except psycopg.OperationalError:
        return False
    return True


class Stack:
    """One project of compose.yaml.

    address  host:port of its proxy
    """

    def __init__(
        self, engine: docker.DockerClient, project: str, port: int, *, trust_network: bool = True
    ) -> None:
        """
        trust_network  whether its callers need no token, as most of these tests are about something else
        """
        self.engine = engine
        self.project = project
        self.address = f"127.0.0.1:{port}"
        self.environment = {
            **os.environ,
            "COMPOSE": shlex.join(compose_command()),
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_PROGRESS": "quiet",
            # The first images make what they have in common, those after them find it made.
            "COMPOSE_PARALLEL_LIMIT": "2",
            "LEROBOT_BACKEND_PORT": str(port),
            "LEROBOT_BACKEND_TRUST_NETWORK": "yes" if trust_network else "",
        }

    @property
    def url(self) -> str:
        return f"http{'s' if self.environment.get('LEROBOT_BACKEND_TLS') else ''}://{self.address}"

    def compose(self, *words: str) -> str:
        """What `docker compose …` printed; raises AssertionError with all of it if that failed."""
        return self.run([*compose_command(), *words])

    def script(self, name: str, *words: str) -> str:
        """The same for a script of deploy/stack, which is what make calls."""
        return self.run([str(REPOSITORY / "deploy/stack" / name), *words])

    def run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def containers(self, service: str, *, all: bool = False) -> list[Container]:
        """Containers of one service, those that run or all."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        found: list[Container] = self.engine.containers.list(all=all, filters={"label": labels})
        return found

    def container(self, service: str) -> Container:
        (container,) = self.containers(service)
        return container

    def url_of(self, container: Container, port: int) -> str:
        """Address of what a container of this stack serves to the others."""
        return f"http://{ip_address(container, f'{self.project}_backend')}:{port}"

    def query(self, statement: str) -> str:
        """What a query gives, asked in the database's own container."""
        words = ["psql", "-U", "postgres", "-d", "lerobot", "--no-align", "--tuples-only", "-c", statement]
        status, output = self.container("postgres").exec_run(words)
        text: str = output.decode().strip()
        assert status == 0, text
        return text

    def hashes_of_files(self) -> str:
        """SHA-256 and name of every file that is kept, in order."""
        script = "find . -path ./.incoming -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum"
        status, output = self.container("video-ingest-service").exec_run(
            ["sh", "-c", script], workdir="/files"
        )
        text: str = output.decode()
        assert status == 0, text
        return text

    def up(self, *words: str) -> None:
        """Start what does not run or has changed, and wait until the proxy says that all is ready."""
        self.compose("up", "--detach", "--wait", *words)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_ready():
            assert time.monotonic() < deadline, self.compose("logs", "--tail=20")
            time.sleep(0.2)

    def is_ready(self) -> bool:
        try:
            # Whoever tests the certificate looks at it.
            answer = httpx.get(f"{self.url}/readyz", timeout=PATIENCE_S, verify=False)
            return answer.status_code == 200
        except httpx.TransportError:
            return False

    def remove(self) -> None:
        """Containers, networks and volumes."""
        self.compose("--profile=monitoring", "down", "--volumes", "--timeout=5")


async def in_thread(work: Any, *words: Any) -> Any:
    """Docker's calls block; robots must go on streaming meanwhile."""
    return await asyncio.to_thread(work, *words)
