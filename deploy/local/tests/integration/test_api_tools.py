"""The description in the hands of other people's tools: validators, and generators of clients."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from teleop_testing.backends.processes import whole_backend
from teleop_testing.robots.lines import connect_in_thread
from teleop_testing.waiting import PATIENCE_S

TOOLS = Path(__file__).parent.parent / "api_tools"
FRAMES = 90
FILE = b'{"fps": 30}\n'
# Of each operation; `make test-api` asks for more.
FEW = 4
EXAMPLES = int(os.environ.get("TELEOP_API_EXAMPLES", FEW))
# And with tokens of the roles, which takes as long as all other tests of these tools.
ROLES = [None] if EXAMPLES == FEW else [None, "operator", "viewer", "robot"]

needs_npm = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="node or npm is missing: apt-get install nodejs npm",
)


def run(*command: str | Path, folder: Path) -> str:
    """What a program prints; it must end well."""
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(documents, tmp_path_factory) -> Path:
    """A folder with the document of each server, `<server>.json`."""
    folder = tmp_path_factory.mktemp("documents")
    for server, document in documents.items():
        (folder / f"{server}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Path:
    """A folder with the tools installed, and the program that is written with them."""
    folder = tmp_path_factory.mktemp("api-tools")
    shutil.copytree(TOOLS, folder, dirs_exist_ok=True)
    run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=folder)
    return folder


@contextmanager
def recorded_in(folder: Path) -> Iterator[str]:
    """Address of the one-process default, which has recorded a session."""
    with whole_backend(folder) as process:
        with connect_in_thread(f"ws://{process.address}/ws/log/robot_A?fps=30&task=pick") as websocket:
            for index in range(FRAMES):
                frame = {
                    "observation": {"a.pos": index},
                    "action": {"a.pos": index},
                    "timestamp": 1e9 + index / 30,
                }
                websocket.send(json.dumps(frame))
            while json.loads(websocket.recv(timeout=PATIENCE_S)).get("next") != FRAMES:
                pass
        yield f"http://{process.address}"


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """Address of a backend that has recorded a session, for clients that change little."""
    with recorded_in(tmp_path_factory.mktemp("backend")) as address:
        yield address


@needs_npm
def test_validators_find_nothing(tools, written):
    """Redocly and Spectral, with their own rules: neither an error nor, but for one, a warning.

    The one: a WebSocket's handshake is answered with 101, which neither takes for success.
    """
    documents = sorted(written.glob("*.json"))
    known = ("operation-2xx-response:off", "operation-success-response")
    skipped = ("--skip-rule", known[0].partition(":")[0])
    run("node_modules/.bin/redocly", "lint", *skipped, "--max-problems=100", *documents, folder=tools)
    (tools / "spectral.yaml").write_text(f'extends: "spectral:oas"\nrules:\n  {known[1]}: off\n')
    told = run(
        "node_modules/.bin/spectral",
        "lint",
        "-r",
        "spectral.yaml",
        "--fail-severity=warn",
        *documents,
        folder=tools,
    )
    assert "No results" in told


def assert_done(answers: dict) -> None:
    """What a generated client has heard is what there is."""
    assert answers["committed"] == FRAMES
    assert answers["stored"] == "robot_A/me/ds/meta/info.json"
    assert answers["states"][-1] == "done"
    assert answers["archive"] > 1000
    assert answers["code"] == "session_not_found"


@needs_npm
def test_a_client_in_typescript(tools, written, backend, tmp_path):
    """Its types are generated, strictly checked, and true of the answers."""
    generate = ("node_modules/.bin/openapi-typescript", written / "lerobot-backend.json", "-o", "api.d.ts")
    run(*generate, "--default-non-nullable=false", folder=tools)
    run("node_modules/.bin/tsc", "-p", ".", folder=tools)
    (tmp_path / "info.json").write_bytes(FILE)
    assert_done(json.loads(run("node", "client.js", backend, tmp_path / "info.json", folder=tools)))


def test_a_client_in_python(written, backend, tmp_path):
    """It is generated whole, without a warning, and understands the answers."""
    config = TOOLS / "openapi-python-client.yaml"
    document = written / "lerobot-backend.json"
    generate = ("generate", "--path", document, "--config", config, "--meta", "none", "--fail-on-warning")
    generator = Path(sys.executable).parent / "openapi-python-client"
    run(generator, *generate, "--output-path", tmp_path / "backend_client", folder=tmp_path)
    shutil.copy(TOOLS / "client.py", tmp_path)
    (tmp_path / "info.json").write_bytes(FILE)
    answers = json.loads(run(sys.executable, "client.py", backend, tmp_path / "info.json", folder=tmp_path))
    assert_done(answers)
    # The export may have been made by the other client: then this one has found it done.
    assert httpx.get(f"{backend}/exports", timeout=PATIENCE_S).json()["exports"][0]["status"] == "done"


@pytest.mark.long("four requests for each operation")
@pytest.mark.parametrize("role", ROLES)
def test_schemathesis_finds_nothing(tmp_path, role):
    """Made-up requests, right and wrong ones, are answered as the description says, whoever sends them."""
    program = Path(sys.executable).parent / "schemathesis"
    shutil.copytree(TOOLS / "schemathesis", tmp_path / "tool")
    with recorded_in(tmp_path) as address:
        words = [f"--max-examples={EXAMPLES}"]
        if role is not None:
            wanted = {"name": "robot_A" if role == "robot" else role, "role": role}
            made = httpx.post(f"{address}/tokens", json=wanted, timeout=PATIENCE_S).raise_for_status().json()
            # Most of their requests end at the door.
            words = [f"--max-examples={EXAMPLES // FEW}", f"--header=Authorization: Bearer {made['token']}"]
        run(program, "run", f"{address}/openapi.json", *words, folder=tmp_path / "tool")
