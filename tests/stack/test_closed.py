"""A stack as `make up` starts it the first time, with nothing set: who gets in, and how a robot does."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import docker
import httpx
import pytest
from recorder import JOINED_FRAMES, join_and_record
from stack import Stack
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S, wait_for

PROJECT = "lerobot-backend-closed"
SERVICES = {"telemetry-service": 8001, "video-ingest-service": 8002, "export-service": 8003}
HF_TOKEN = "hf_secret_of_this_test"
# Each question is one to Docker's engine.
LOOK_EVERY_S = 0.5


@pytest.fixture(scope="module")
def closed(engine: docker.DockerClient) -> Iterator[tuple[Stack, str]]:
    """A new stack, and what `make up` has said of it."""
    stack = Stack(engine, PROJECT, free_port(), trust_network=False)
    stack.environment["HF_TOKEN"] = HF_TOKEN
    stack.remove()
    yield stack, stack.script("up.sh")
    stack.remove()


def enrolment(told: str) -> str:
    """The command for `docker compose exec` that lets a robot in."""
    [found] = re.findall(r"^ .* exec (telemetry-service python -m \S+ robots add .*)$", told, re.MULTILINE)
    return str(found)


def test_from_the_first_start_to_a_robot_that_streams(closed, tmp_path, monkeypatch):
    """By the lines that `make up` prints; before them, nobody on this machine gets anything."""
    stack, told = closed
    for path in ("/sessions", "/datasets", "/exports"):
        refused = httpx.get(f"{stack.url}{path}", timeout=PATIENCE_S)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized"), path
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    printed = stack.compose("exec", "-T", *shlex.split(enrolment(told)))
    line = printed.splitlines()[0].replace("//localhost:", "//127.0.0.1:")
    session_id = join_and_record(stack.url, "robot_A", line, tmp_path / "spool")
    access = ["telemetry-service", "python", "-m", "teleop_telemetry.access"]
    token = stack.compose("exec", "-T", *access, "tokens", "add", "anna", "--role", "viewer").strip()
    # With a token, any name will do.
    headers = {"Authorization": f"Bearer {token}", "Host": "robots.example.com"}
    ledger = httpx.get(f"{stack.url}/sessions/{session_id}/ledger", headers=headers, timeout=PATIENCE_S)
    assert (ledger.json()["committed"], ledger.json()["complete"]) == (JOINED_FRAMES, True)
    [credential] = json.loads((tmp_path / "config/lerobot-backend/credentials").read_text())
    [code, sign_in] = re.search("code=([^&]+)", line)[1], re.search("/sign-in#(.+)", told)[1]
    check_secrets(stack, {credential["token"], token, code, sign_in, *passwords(stack)})


def passwords(stack: Stack) -> Iterator[str]:
    """Of the database, and what the worker shows the Hub."""
    yield HF_TOKEN
    for service in SERVICES:
        told = stack.container(service).exec_run(["cat", "/run/secrets/DATABASE_URL"]).output.decode()
        yield told.split(":")[2].split("@")[0]


def check_secrets(stack: Stack, secrets: set[str]) -> None:
    """None stands in a log, in what Docker tells of a container, or in what a process was started with."""
    label = {"label": f"com.docker.compose.project={stack.project}"}
    containers = stack.engine.containers.list(all=True, filters=label)
    assert len(containers) > len(SERVICES)
    for container in containers:
        told = {"logs": container.logs(), "inspect": json.dumps(container.attrs).encode()}
        if container.status == "running":
            for process in container.top(ps_args="-o pid")["Processes"]:
                for what in ("environ", "cmdline"):
                    told[f"{process[0]} {what}"] = Path(f"/proc/{process[0]}/{what}").read_bytes()
        # What hands the secrets out has to get them from somewhere: whoever may ask Docker is root.
        service = container.labels["com.docker.compose.service"]
        if service == "secrets":
            del told["inspect"]
        foreign = secrets - {HF_TOKEN} if service == "export-worker" else secrets
        found = [where for where, text in told.items() for secret in foreign if secret.encode() in text]
        assert not found, container.name


def test_metrics_are_for_the_stack_s_own_network(closed):
    """Prometheus reads them without a token, and only them; the proxy passes nothing on."""
    stack, _ = closed
    stack.compose("--profile", "monitoring", "up", "--detach", "--no-deps", "prometheus")
    address = stack.url_of(stack.container("prometheus"), 9090)

    def watched() -> set[str]:
        try:
            found = httpx.get(f"{address}/api/v1/query", params={"query": "up == 1"}, timeout=PATIENCE_S)
        except httpx.TransportError:
            return set()
        if found.status_code == httpx.codes.SERVICE_UNAVAILABLE:  # it listens before it has started
            return set()
        return {each["metric"]["job"] for each in found.json().get("data", {}).get("result", ())}

    wait_for(lambda: watched() == set(SERVICES), every_s=LOOK_EVERY_S)
    assert httpx.get(f"{stack.url}/metrics", timeout=PATIENCE_S).status_code == 404
    for service, port in SERVICES.items():
        direct = stack.url_of(stack.container(service), port)
        through = httpx.get(f"{direct}/metrics", headers={"X-Forwarded-For": "10.0.0.1"}, timeout=PATIENCE_S)
        assert through.status_code == 401, service
    assert (
        httpx.get(
            f"{stack.url_of(stack.container('telemetry-service'), 8001)}/sessions", timeout=PATIENCE_S
        ).status_code
        == 401
    )
