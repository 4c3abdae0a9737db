"""Clients of HTTP that others wrote: a form, ranges, a broken download that goes on, compressed answers."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

SIZE_BYTES = 3 * 1024 * 1024
LIBRARIES = {
    "Python requests": "requests_files.py",
    "Python httpx": "httpx_files.py",
    "Python aiohttp": "aiohttp_files.py",
    "Node's own fetch": "fetch_files.mjs",
}
FORM = "HTTP: a form, two ranges, a compressed answer"
BROKEN = "HTTP: a download that broke off goes on"
SENT = "3 MB"
SAME = "the same bytes"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """What they send."""
    path = tmp_path_factory.mktemp("sent") / "notes.txt"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


async def run(*command: str | Path) -> str:
    """What a client prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return output.decode()


@pytest.mark.parametrize("name", LIBRARIES)
async def test_libraries(backend, clients, file, name, tmp_path, tried):
    """What comes back in two ranges is what was sent, and compressed JSON is read as any other."""
    script, copy = LIBRARIES[name], tmp_path / "copy"
    runtime = "node" if script.endswith(".mjs") else sys.executable
    dataset = script.partition(".")[0]
    told = await run(runtime, clients / script, f"http://{backend.address}", file, dataset, copy)
    assert told.split() == ["gzip", "3.1.0"]
    assert copy.read_bytes() == file.read_bytes()
    tried(name, FORM, SENT, SAME)


def fields(dataset: str) -> list[str]:
    """curl's options for a form, the fields before the file."""
    about = {"robot_id": "robot_http", "dataset": dataset, "path": "meta/notes.txt"}
    return [piece for name, value in about.items() for piece in ("-F", f"{name}={value}")]


CONTINUING = {"curl": ["-fsSO", "-C", "-"], "wget": ["-q", "-c"]}


@pytest.mark.parametrize("name", CONTINUING)
async def test_commands_continue_a_download(backend, file, name, tmp_path, tried):
    """`curl -C -` and `wget -c`: what is there already is not fetched again, and what follows fits to it."""
    if not (shutil.which(name) and shutil.which("curl")):
        pytest.skip(f"{name} or curl is missing: apt-get install curl wget")
    dataset = f"by-{name}"
    await run(
        "curl", "-fsS", *fields(dataset), "-F", f"file=@{file}", f"http://{backend.address}/upload/sync"
    )
    # Other bytes than those of the file show what was fetched.
    copy = tmp_path / "notes.txt"
    copy.write_bytes(b"#" * (SIZE_BYTES // 2))
    address = f"http://{backend.address}/datasets/robot_http/{dataset}/files/meta/notes.txt"
    await run("env", "-C", tmp_path, name, *CONTINUING[name], address)
    assert copy.read_bytes() == b"#" * (SIZE_BYTES // 2) + file.read_bytes()[SIZE_BYTES // 2 :]
    tried(name, BROKEN, SENT, f"{SAME}; the first half was not fetched again")


async def test_curl_decompresses(backend, tmp_path):
    """`curl --compressed` asks for gzip and shows the plain answer."""
    head = tmp_path / "head"
    told = await run("curl", "-fsS", "--compressed", "-D", head, f"http://{backend.address}/openapi.json")
    assert told.startswith("{")
    assert "content-encoding: gzip" in head.read_text().lower()
