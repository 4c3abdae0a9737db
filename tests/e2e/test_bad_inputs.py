"""Whatever is wrong gets an error that names it; the service goes on, and a robot beside it loses nothing."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from bad_inputs.datasets import DATASETS, SOUND
from bad_inputs.over_http import ADDRESSES, BODIES, HEADS, UPLOADS
from bad_inputs.over_websocket import FRAMES, HANDSHAKES, HELLOS, PLAIN
from bad_inputs.wire import Told, ask, converse, handshake, request, text
from lerobot_robot_backend.client import TelemetryClient
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.datasets.files import encode_video, manifest_of
from teleop_testing.datasets.hostile_video import HARMLESS, HOSTILE
from teleop_testing.machine.memory import peak_bytes
from teleop_testing.robots.robot import TestRobot
from teleop_testing.robots.spooled import recording_beside
from teleop_testing.waiting import PATIENCE_S

MOST_OF_A_CHILD_BYTES = 1024**3


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The whole backend as one process."""
    with whole_backend(tmp_path_factory.mktemp("backend")) as process:
        yield process


@pytest.fixture(scope="module", autouse=True)
def robot(backend: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TelemetryClient]:
    """A robot that records beside all that; afterwards all its frames are there, and no file of others."""
    with recording_beside(backend.url, "robot_A", tmp_path_factory.mktemp("spool")) as client:
        yield client
    with httpx.Client(base_url=backend.url, timeout=PATIENCE_S) as http:
        ledger = http.get(f"/sessions/{client.session_id}/ledger").json()
        assert (ledger["committed"], ledger["complete"]) == (client.logged, True)
        assert http.get("/readyz").json() == {"status": "ready"}
        assert {each["robot_id"] for each in http.get("/datasets").json()["datasets"]} <= {"attacker"}
        assert http.get("/exports").json()["exports"] == []
    faults = [line for line in backend.log.read_text().splitlines() if '"level": "error"' in line]
    assert faults == []


def check(told: Mapping[str, tuple[Told, str]], record: Callable[[str, object], None]) -> None:
    """Each got what it was to get; tells how many there were."""
    record("bad inputs", len(told))
    wrong = [
        f"{name}: {got}, not {must}: {got.said}" for name, (got, must) in told.items() if str(got) != must
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "kind", [HEADS, BODIES, UPLOADS, HANDSHAKES], ids=["heads", "bodies", "uploads", "handshakes"]
)
async def test_requests(backend, record_property, kind: Mapping[str, tuple[bytes, str]]):
    """Heads that lie, bodies of another shape, uploads to where nothing belongs, handshakes."""
    told = {name: (await ask(backend.port, sent), wanted) for name, (sent, wanted) in kind.items()}
    check(told, record_property)


async def test_addresses(backend, record_property):
    """What stands in an address is never followed out of where it belongs."""
    told = {
        each: (await ask(backend.port, request("GET", each)), wanted) for each, wanted in ADDRESSES.items()
    }
    check(told, record_property)


async def test_messages(backend, record_property):
    """After a session was opened: frames of WebSocket and batches."""
    told: dict[str, tuple[Told, str]] = {}
    for name, (sent, wanted) in FRAMES.items():
        told[name] = await converse(backend.port, handshake(), sent, greeted=True), wanted
    check(told, record_property)


@pytest.mark.parametrize(
    ("subprotocol", "kind"), [("lerobot.telemetry.v1.3", HELLOS), (None, PLAIN)], ids=["hello", "plain"]
)
async def test_first_messages(backend, record_property, subprotocol, kind: Mapping[str, tuple[str, str]]):
    """JSON of every wrong kind, in both modes."""
    told: dict[str, tuple[Told, str]] = {}
    for name, (sent, wanted) in kind.items():
        opening = handshake(subprotocol=subprotocol)
        told[name] = await converse(backend.port, opening, [text(sent)], greeted=False), wanted
    check(told, record_property)


async def test_video(backend):
    """Whatever it is, its sender is told why it is not used, in bounded memory; sound video beside it is."""
    async with TestRobot.connected(backend.address, "attacker") as robot, whole(backend) as http:

        async def send(camera: str, content: bytes) -> dict[str, Any]:
            about = {
                "robot_id": "attacker",
                "session": str(robot.welcome.session_id),
                "camera_key": camera,
                "chunk_index": "0",
                "start_timestamp": "2026-01-05T10:00:00Z",
                "end_timestamp": "2026-01-05T10:00:01Z",
            }
            answer = await http.post("/upload/video", data=about, files={"file": content})
            assert answer.status_code == 201, answer.text
            told: dict[str, Any] = answer.json()
            return told

        for number, kind in enumerate(HOSTILE):
            told, beside = await asyncio.gather(
                send(f"hostile_{number}", HOSTILE[kind]()),
                send(f"sound_{number}", encode_video(30, seed=number)),
            )
            assert (told["quarantine"] is None) == (kind in HARMLESS), (kind, told)
            assert beside["quarantine"] is None, (kind, beside)
            assert most_of_a_child(backend) < MOST_OF_A_CHILD_BYTES, kind


async def test_datasets(backend):
    """Their repair says what is wrong with them, soon; one that only counts wrongly is repaired."""
    async with whole(backend) as http:
        told = {
            kind: await repaired(http, f"bomb/n{number}", files)
            for number, (kind, (files, _)) in enumerate(DATASETS.items())
        }
        wrong = [
            (kind, answer.text)
            for kind, answer in told.items()
            if answer.status_code != 409 or DATASETS[kind][1] not in answer.json()["detail"]
        ]
        assert not wrong
        assert (await repaired(http, "bomb/sound", SOUND)).status_code == 201


def whole(backend: ServiceProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=backend.url, timeout=PATIENCE_S)


def most_of_a_child(backend: ServiceProcess) -> int:
    """The most memory that a process has held which this backend has started to look into video."""
    children = Path(f"/proc/{backend.pid}/task/{backend.pid}/children").read_text().split()
    peaks = [0]
    for pid in children:
        with suppress(OSError, IndexError):
            if b"probe_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                peaks.append(peak_bytes(pid))
    return max(peaks)


async def repaired(http: httpx.AsyncClient, dataset: str, files: Mapping[str, bytes]) -> httpx.Response:
    """What the server says to the repair of a dataset that an attacker has backed up."""
    for path, content in files.items():
        about = {"robot_id": "attacker", "dataset": dataset, "path": path}
        sent = await http.post("/upload/sync", data=about, files={"file": content})
        assert sent.status_code == 201, sent.text
    body = msgspec.json.encode(manifest_of(files))
    address = f"/datasets/attacker/{dataset}"
    assert (await http.post(f"{address}/versions", content=body)).status_code == 201
    return await http.post(f"{address}/repair")
