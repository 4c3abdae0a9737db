"""tus-js-client, the client of Uppy and browsers, against the service."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

MIB = 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}
SOURCE = Path(__file__).parent.parent / "tus_js"
PATH = "videos/front/file-000.mp4"
STORED = f"robot_A/me/ds/{PATH}"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="node or npm is missing: apt-get install nodejs npm",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Path:
    """The script that drives tus-js-client, with what it needs installed beside it."""
    folder = tmp_path_factory.mktemp("tus-js")
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(SOURCE / name, folder)
    install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        install, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return folder / "client.mjs"


@pytest.fixture
def run(client, service, content, tmp_path):
    """Runs a scenario of the script, and gives what it prints."""

    async def run(scenario: str) -> dict:
        (tmp_path / "content").write_bytes(content)
        arguments = (client, f"http://{service}/files", scenario, tmp_path / "content", PATH)
        node = await asyncio.create_subprocess_exec("node", *arguments, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE_S):
            return json.loads((await node.communicate())[0])

    return run


@pytest.mark.parametrize("scenario", ["create", "withCreation", "overridden", "deferred"])
async def test_uploads(run, http, store_root, content, scenario):
    """An upload ends as a file in the tree, however the client goes about it; metadata comes back."""
    done = await run(scenario)
    assert done["end"] == "success"
    assert (store_root / STORED).read_bytes() == content
    answer = await http.head(done["url"], headers=TUS)
    assert answer.headers["Upload-Offset"] == str(len(content))
    assert "filetype YXBwbGljYXRpb24vb2N0ZXQtc3RyZWFt" in answer.headers["Upload-Metadata"]


async def test_resumes_after_a_cut(run, store_root, content):
    """An aborted upload goes on from the offset that the server tells."""
    done = await run("resume")
    assert done["first"]["end"] == "aborted"
    assert done["end"] == "success"
    assert done["offsets"][0] >= 2 * MIB
    assert done["url"] == done["first"]["url"]
    assert (store_root / STORED).read_bytes() == content


async def test_hears_of_wrong_checksums(run, http):
    """A chunk with a wrong checksum is refused with 460 and does not count."""
    done = await run("wrongChecksum")
    assert (done["end"], done["status"]) == ("error", 460)
    answer = await http.head(done["url"], headers=TUS)
    assert answer.headers["Upload-Offset"] == "0"


async def test_termination(run, http, store_root):
    """An upload that the client terminates is gone."""
    done = await run("terminate")
    assert done["end"] == "aborted"
    assert (await http.head(done["url"], headers=TUS)).status_code == 404
    assert list((store_root / ".incoming").iterdir()) == []
