"""Whatever is wrong gets an error that names it; the service goes on, and a robot beside it loses nothing."""

import threading
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest
from bad_inputs.over_http import ADDRESSES, BODIES, HEADS, UPLOADS
from bad_inputs.over_websocket import FRAMES, HANDSHAKES, HELLOS, PLAIN
from bad_inputs.wire import Told, ask, converse, handshake, request, text
from lerobot_robot_backend.client import TelemetryClient
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.robots.spooled import JOINTS, log_frames
from teleop_testing.waiting import PATIENCE_S

RATE_HZ = 60


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The whole backend as one process."""
    with whole_backend(tmp_path_factory.mktemp("backend")) as process:
        yield process


@pytest.fixture(scope="module", autouse=True)
def robot(backend: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TelemetryClient]:
    """A robot that records beside all that; afterwards all its frames are there, and no file of others."""
    client = TelemetryClient(
        backend.url,
        "robot_A",
        state_names=JOINTS,
        action_names=JOINTS,
        fps=RATE_HZ,
        spool_dir=tmp_path_factory.mktemp("spool"),
        min_free_bytes=0,
    )
    over = threading.Event()

    def record() -> None:
        while not over.wait(1 / RATE_HZ):
            log_frames(client, 1)

    recording = threading.Thread(target=record)
    with client:
        recording.start()
        yield client
        over.set()
        recording.join()
    assert client.drain(timeout_s=PATIENCE_S) == client.logged > 0
    with httpx.Client(base_url=backend.url, timeout=PATIENCE_S) as http:
        ledger = http.get(f"/sessions/{client.session_id}/ledger").json()
        assert (ledger["committed"], ledger["complete"]) == (client.logged, True)
        assert http.get("/readyz").json() == {"status": "ready"}
        assert http.get("/datasets").json()["datasets"] == []
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
