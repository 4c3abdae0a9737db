"""Clients of tus that others wrote: they upload, are cut off, go on, and end; also through nginx."""

import asyncio
import os
import shutil
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, async_playwright
from teleop_backend.demo.relay import Relay, relay_to
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.backends.reverse_proxies import needs_nginx, nginx
from teleop_testing.waiting import PATIENCE_S

MIB = 1024 * 1024
SIZE_BYTES = 6 * MIB
# Below what nginx accepts as it comes.
CHUNK_BYTES = MIB // 2
CUT_FOR_S = 0.3
CUTS = 3
CLIENTS = {
    "tus-js-client": "tus_js.mjs",
    "Uppy": "uppy.mjs",
    "tuspy": "tuspy_client.py",
    "aiotus": "aiotus_client.py",
}
DEFAULTS = "location / {{ proxy_pass http://127.0.0.1:{port}; }}"
RESUMES = f"tus, cut {CUTS} times"
REFUSED = "tus, nginx with its defaults"

each_client = pytest.mark.parametrize("name", CLIENTS)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """What they send."""
    path = tmp_path_factory.mktemp("sent") / "notes.txt"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


async def start(
    clients: Path, name: str, port: int, file: Path, dataset: str, chunk_bytes: int
) -> asyncio.subprocess.Process:
    """A client that sends the file in chunks of that size, or, with 0, in one piece."""
    script = CLIENTS[name]
    runtime = "node" if script.endswith(".mjs") else sys.executable
    return await asyncio.create_subprocess_exec(
        runtime, clients / script, f"http://127.0.0.1:{port}", file, dataset, str(chunk_bytes),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def cut_again_and_again(client: asyncio.subprocess.Process, line: Relay) -> list[str]:
    """What the client prints; after each of the first answers to a chunk, its line is cut for a moment."""
    assert client.stdout is not None
    printed: list[str] = []
    cuts = 0
    async with asyncio.timeout(PATIENCE_S):
        async for text in client.stdout:
            printed.append(text.decode().strip())
            stored = int(printed[-1].removeprefix("stored ")) if printed[-1].startswith("stored ") else 0
            if cuts < CUTS and stored > cuts * SIZE_BYTES // (CUTS + 1):
                cuts += 1
                line.cut()
                await asyncio.sleep(CUT_FOR_S)
                line.mend()
        await client.wait()
    assert cuts == CUTS, printed
    return printed


@asynccontextmanager
async def chromium() -> AsyncIterator[Page]:
    """A page of Debian's Chromium."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    async with async_playwright() as playwright:
        # Its own sandbox needs rights that a container lacks.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield await browser.new_page()
        await browser.close()


async def stored_bytes(backend: ServiceProcess, dataset: str) -> bytes:
    async with httpx.AsyncClient(base_url=f"http://{backend.address}", timeout=PATIENCE_S) as http:
        answer = await http.get(f"/datasets/robot_tus/{dataset}/files/meta/notes.txt")
    assert answer.status_code == 200, answer.text
    return answer.content


async def failure_of(client: asyncio.subprocess.Process) -> str:
    assert client.stderr is not None
    return (await client.stderr.read()).decode()


@each_client
async def test_cut_and_resumed(backend, clients, file, name, tried):
    """Its line is cut while it sends: it asks how much has arrived, and goes on; the file is the same."""
    dataset = f"cut-{name.lower()}"
    with relay_to(backend.port) as line:
        client = await start(clients, name, line.port, file, dataset, CHUNK_BYTES)
        await cut_again_and_again(client, line)
        assert client.returncode == 0, await failure_of(client)
    assert await stored_bytes(backend, dataset) == file.read_bytes()
    tried(name, RESUMES, "6 MB in chunks of 0.5 MB", "the same bytes")


SEND = """([bytes, dataset, chunkSize]) => new Promise((resolve, reject) => {
  window.stored = 0;
  const upload = new tus.Upload(new Blob([Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0))]), {
    endpoint: "/files/",
    chunkSize,
    retryDelays: [100, 300, 1000, 1000, 1000],
    metadata: { kind: "dataset", robot_id: "robot_tus", dataset, path: "meta/notes.txt" },
    onChunkComplete: (_size, stored) => { window.stored = stored; },
    onError: reject,
    onSuccess: () => resolve(upload.url),
  });
  upload.start();
})"""


async def test_in_a_browser(backend, clients, file, tried):
    """A page of the backend's own origin, whose line is cut, with what tus-js-client has for browsers."""
    library = clients.parent / "node_modules/tus-js-client/dist/tus.min.js"
    with relay_to(backend.port) as line:
        origin = f"http://127.0.0.1:{line.port}"
        async with chromium() as page:
            await page.route(f"{origin}/page", lambda route: route.fulfill(body="", content_type="text/html"))
            await page.goto(f"{origin}/page")
            await page.add_script_tag(path=library)
            content = b64encode(file.read_bytes()).decode()
            sending = asyncio.create_task(page.evaluate(SEND, [content, "in-chromium", CHUNK_BYTES]))
            for number in range(CUTS):
                reached = number * SIZE_BYTES // (CUTS + 1)
                await page.wait_for_function(
                    f"window.stored > {reached}", timeout=PATIENCE_S * 1000, polling=10
                )
                line.cut()
                await asyncio.sleep(CUT_FOR_S)
                line.mend()
            async with asyncio.timeout(PATIENCE_S):
                assert (await sending).startswith(f"{origin}/files/")
    assert await stored_bytes(backend, "in-chromium") == file.read_bytes()
    tried("tus-js-client in Chromium", RESUMES, "6 MB in chunks of 0.5 MB", "the same bytes")


@needs_nginx
@each_client
async def test_through_nginx_as_it_comes(backend, clients, file, name, tmp_path, tried):
    """Chunks below 1 MB pass; a file in one request is refused by nginx, with 413."""
    async with nginx(tmp_path, DEFAULTS.format(port=backend.port)) as port:
        client = await start(clients, name, port, file, f"nginx-{name.lower()}", CHUNK_BYTES)
        async with asyncio.timeout(PATIENCE_S):
            await client.communicate()
        assert client.returncode == 0
        whole = await start(clients, name, port, file, f"whole-{name.lower()}", 0)
        async with asyncio.timeout(PATIENCE_S):
            _, complaints = await whole.communicate()
        assert whole.returncode != 0
        assert b"413" in complaints
    assert await stored_bytes(backend, f"nginx-{name.lower()}") == file.read_bytes()
    stored = "the same bytes; 413 (`client_max_body_size`)"
    tried(name, REFUSED, "6 MB in chunks of 0.5 MB; 6 MB at once", stored)
