"""Each service from its image alone: nothing but its own environment."""

import hashlib
import os
from uuid import uuid4

import docker
import httpx
import pytest
from docker.errors import ContainerError
from docker.models.containers import Container
from stack import ip_address, is_open
from teleop_testing.datasets.dataset_folders import contents, make_dataset
from teleop_testing.waiting import PATIENCE_S, wait_for

LIMITS = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "tmpfs": {"/tmp": ""},
    "security_opt": ["no-new-privileges"],
}
LOOK_EVERY_S = 0.2
SERVICES = [("telemetry-service", 8001), ("video-ingest-service", 8002), ("export-service", 8003)]


@pytest.fixture(scope="module")
def database(engine: docker.DockerClient, stack):
    """A PostgreSQL of somebody else, migrated; the network it is in, and its address there."""
    name = f"alone-{uuid4().hex[:8]}"
    network = engine.networks.create(name)
    server = engine.containers.run(
        "postgres:18",
        environment={"POSTGRES_PASSWORD": "secret"},
        network=name,
        hostname="database",
        detach=True,
    )
    url = "postgresql://postgres:secret@database:5432/postgres"
    port = f"host={ip_address(server, name)} user=postgres password=secret"
    wait_for(lambda: is_open(port), every_s=LOOK_EVERY_S)
    command = ["python", "-m", "teleop_schema.migrate"]
    engine.containers.run(
        "lerobot-backend/setup", command, environment={"DATABASE_URL": url}, network=name, remove=True
    )
    yield name, url
    server.remove(force=True, v=True)
    network.remove()


@pytest.mark.parametrize(("service", "port"), SERVICES)
def test_a_service_starts_alone(engine, database, service, port):
    """Its image, the address of a database, and it is ready and healthy."""
    network, url = database
    container = engine.containers.run(
        f"lerobot-backend/{service}",
        environment={"DATABASE_URL": url, "LEROBOT_BACKEND_EXPOSURE": "lab"},
        network=network,
        volumes=["/files"],
        detach=True,
        **LIMITS,
    )
    try:
        address = f"http://{ip_address(container, network)}:{port}/readyz"
        with httpx.Client(timeout=PATIENCE_S) as client:
            wait_for(lambda: answers(client, address), every_s=LOOK_EVERY_S)
        wait_for(lambda: health(engine, container) == "healthy", every_s=LOOK_EVERY_S)
        container.stop(timeout=30)
        assert engine.api.inspect_container(container.id)["State"]["ExitCode"] == 0
    finally:
        container.remove(force=True, v=True)


@pytest.mark.parametrize(("service", "port"), SERVICES)
def test_a_service_says_what_its_environment_lacks(engine, stack, service, port):
    """Exit status 2, and the name of the variable."""
    with pytest.raises(ContainerError) as failure:
        engine.containers.run(f"lerobot-backend/{service}", remove=True, **LIMITS)
    assert failure.value.exit_status == 2
    assert b"DATABASE_URL" in failure.value.stderr


def test_the_agent_runs_from_its_image(engine, stack, agent_image, tmp_path):
    """As the user who records: what that user's folder holds is on the server, byte for byte."""
    folder = make_dataset(tmp_path / "someone/picking")
    engine.containers.run(
        agent_image,
        ["once", "--watch", "/outputs", "--backend_url", "http://proxy:8000", "--robot-id", "robot_agent"],
        user=f"{os.getuid()}:{os.getgid()}",
        network=f"{stack.project}_backend",
        volumes=[f"{tmp_path}:/outputs", "/state"],
        remove=True,
        **LIMITS,
    )
    address = f"{stack.url}/datasets/robot_agent/someone/picking"
    for path, content in contents(folder).items():
        stored = httpx.get(f"{address}/files/{path}", timeout=PATIENCE_S).content
        assert hashlib.sha256(stored).digest() == hashlib.sha256(content).digest(), path


def test_the_proxy_serves_https(engine, stack):
    """With a domain it redirects to HTTPS, whose certificate it gets by itself, and lets nobody go back."""
    container = engine.containers.run(
        "lerobot-backend/proxy",
        ["caddy", "run", "--config", "/etc/caddy/Caddyfile.internet", "--adapter", "caddyfile"],
        # For this name Caddy is its own authority.
        environment={"LEROBOT_BACKEND_DOMAIN": "localhost"},
        network=f"{stack.project}_edge",
        ports={"8443/tcp": ("127.0.0.1", None), "8080/tcp": ("127.0.0.1", None)},
        volumes=["/data"],
        cap_add=["NET_BIND_SERVICE"],
        detach=True,
        **LIMITS,
    )
    try:
        engine.networks.get(f"{stack.project}_backend").connect(container)
        container.reload()
        ports = {name: bindings[0]["HostPort"] for name, bindings in container.ports.items() if bindings}
        secure, plain = f"https://localhost:{ports['8443/tcp']}", f"http://localhost:{ports['8080/tcp']}"
        with httpx.Client(verify=False, timeout=PATIENCE_S) as client:
            wait_for(lambda: answers(client, f"{secure}/readyz"), every_s=LOOK_EVERY_S)
            answer = client.get(f"{secure}/sessions")
            assert answer.status_code == 200
            assert "max-age" in answer.headers["strict-transport-security"]
            assert client.get(f"{plain}/sessions").status_code == 308
    finally:
        container.remove(force=True, v=True)


def answers(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(address).status_code == 200
    except httpx.TransportError:
        return False


def health(engine: docker.DockerClient, container: Container) -> str:
    """What Docker has found out about it."""
    status: str = engine.api.inspect_container(container.id)["State"]["Health"]["Status"]
    return status
