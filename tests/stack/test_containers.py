"""What each container may do, and how large its image is."""

import pytest
from stack import SERVICES

BACKEND, POSTGRES = "10001", "999"
ONCE = ("secrets", "migrate")
# The one door, and those that push exports to the Hub.
WITH_A_WAY_OUT = ("proxy", "export-worker")
PYTHON_IMAGE = "python:3.12-slim-bookworm"
# MB that an image adds to that: 224 make 350. Of export-service, Arrow takes 73, FFmpeg with its encoders
# of HEVC and AV1 65 (36 without), numpy 44, the S3 client, the Hub's and psycopg 13 each, ADBC 10.
OWN_MB = {
    "setup": 50,
    "telemetry-service": 240,
    "video-ingest-service": 220,
    "export-service": 290,
    "sync-agent": 190,
}
OWN_PACKAGES = {
    "telemetry-service": "teleop_telemetry",
    "video-ingest-service": "teleop_video_ingest",
    "export-service": "teleop_export",
    "sync-agent": "teleop_sync_agent",
}


@pytest.mark.parametrize("service", [*SERVICES, *ONCE])
def test_a_container_runs_without_rights(stack, service):
    """Nobody is root, nothing but volumes can be written to, and no privilege can be gained."""
    for container in stack.containers(service, all=True):
        host, config = container.attrs["HostConfig"], container.attrs["Config"]
        assert config["User"].split(":")[0] == (POSTGRES if service == "postgres" else BACKEND)
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["CapAdd"] == (["CAP_NET_BIND_SERVICE"] if service == "proxy" else None)
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert not host["Privileged"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["LogConfig"]["Config"]["max-size"]
        mounts = {mount["Destination"]: mount for mount in container.attrs["Mounts"]}
        assert all(mount["Type"] == "volume" for mount in mounts.values())
        assert "/run/secrets" not in mounts or not mounts["/run/secrets"]["RW"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_is_what_its_container_says(stack, service):
    """Asked from within: another user than root, a root that refuses writing, and no capability."""
    container = stack.containers(service)[0]
    uid = container.exec_run(["id", "-u"]).output.decode().strip()
    assert uid == (POSTGRES if service == "postgres" else BACKEND)
    for folder in ("/", "/etc", "/opt", "/usr/local"):
        assert container.exec_run(["touch", f"{folder}/written"]).exit_code != 0
    status = container.exec_run(["cat", "/proc/1/status"]).output.decode()
    capabilities = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert int(capabilities["CapEff"], 16) == 0
    assert capabilities["NoNewPrivs"] == "1"


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "export-worker"])
def test_a_slow_machine_has_time_to_start(stack, service):
    """`up --wait` gives up at the first container that is called unhealthy."""
    check = stack.containers(service)[0].attrs["Config"]["Healthcheck"]
    assert check["StartPeriod"] >= 300e9
    assert check["Timeout"] >= 20e9


def test_only_the_proxys_port_is_open(stack):
    """One published port in all, on this machine only; but for the proxy and the workers nobody gets out."""
    published = {
        service: [
            (name, binding["HostIp"])
            for name, bindings in container.attrs["NetworkSettings"]["Ports"].items()
            for binding in bindings or ()
        ]
        for service in SERVICES
        for container in stack.containers(service)
    }
    assert {service: ports for service, ports in published.items() if ports} == {
        "proxy": [("8000/tcp", "127.0.0.1")]
    }
    for service in SERVICES:
        networks = set(stack.containers(service)[0].attrs["NetworkSettings"]["Networks"])
        names = ("backend", "edge") if service in WITH_A_WAY_OUT else ("backend",)
        assert networks == {f"{stack.project}_{name}" for name in names}
    assert stack.engine.networks.get(f"{stack.project}_backend").attrs["Internal"]


def test_a_service_sees_only_its_own_secret(stack):
    """A file or two, for its user alone; no password stands in any environment."""
    for service in ("telemetry-service", "video-ingest-service", "export-service", "export-worker"):
        container = stack.containers(service)[0]
        listed = container.exec_run(
            ["find", "/run/secrets", "-type", "f", "-printf", "%P %m\n"]
        ).output.decode()
        # What robots know the backend by; its key is with the proxy.
        public = ["LEROBOT_BACKEND_AUTHORITY 600"] if service == "telemetry-service" else []
        assert sorted(listed.split("\n")[:-1]) == ["DATABASE_URL 600", *public]
        secret = container.exec_run(["cat", "/run/secrets/DATABASE_URL"]).output.decode()
        password = secret.split(":")[2].split("@")[0]
        assert len(password) >= 43
        assert password not in str(container.attrs["Config"])


@pytest.mark.parametrize("image", OWN_MB)
def test_an_image_holds_one_service_and_little_else(stack, agent_image, image, record_property):
    """The size is told; neither PyTorch, LeRobot, tests nor another service are in it."""
    found = stack.engine.images.get(f"lerobot-backend/{image}")
    size_mb = found.attrs["Size"] / 1e6
    own_mb = size_mb - stack.engine.images.get(PYTHON_IMAGE).attrs["Size"] / 1e6
    record_property("image", f"{size_mb:4.0f} MB, {own_mb:3.0f} of them its own  {image}")
    assert own_mb < OWN_MB[image]
    command = "ls /opt/service/lib/python3*/site-packages"
    listed = stack.engine.containers.run(found, ["-c", command], entrypoint="sh", remove=True)
    packages = set(listed.decode().split())
    assert not {"torch", "lerobot", "pytest", "pip"} & packages
    assert packages.intersection(OWN_PACKAGES.values()) == {OWN_PACKAGES.get(image)} - {None}
