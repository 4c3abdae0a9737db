"""The whole backend behind nginx and Caddy, set up as docs/howto/behind-a-proxy.md has it."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from teleop_client.uploading import FileBytes, Interrupted, Uploader
from teleop_schema.files import FilePlan
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.backends.reverse_proxies import (
    CADDY,
    NGINX,
    caddy,
    make_certificate,
    needs_nginx,
    nginx,
)
from teleop_testing.datasets.files import dataset_file
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S

DOCUMENT = Path(__file__).parents[2] / "docs/howto/behind-a-proxy.md"
PREFIX = "/robots/backend"
MIB = 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def trusting(tmp_path_factory) -> Iterator[ServiceProcess]:
    """Started as the document says, on a network that is trusted."""
    settings = {**documented_settings(), "LEROBOT_BACKEND_TRUST_NETWORK": "yes"}
    with whole_backend(tmp_path_factory.mktemp("trusting"), **settings) as process:
        yield process


@pytest.fixture(scope="module")
def closed(tmp_path_factory) -> Iterator[ServiceProcess]:
    """Started as the document says."""
    with whole_backend(tmp_path_factory.mktemp("closed"), **documented_settings()) as process:
        yield process


def documented_settings() -> dict[str, str]:
    said = re.search(r"^(LEROBOT_\w+)=(\S+) make run$", DOCUMENT.read_text(), re.MULTILINE)
    assert said
    return {said[1]: said[2]}


@pytest.fixture(scope="module")
def unaware(tmp_path_factory) -> Iterator[ServiceProcess]:
    """Started as if there were no proxy."""
    with whole_backend(tmp_path_factory.mktemp("unaware")) as process:
        yield process


def documented(begins: str, port: int) -> str:
    """The document's directives for one proxy, with the backend's port."""
    [found] = re.findall(rf"^```\n({begins}.*?)```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return found.replace("127.0.0.1:8000", f"127.0.0.1:{port}")


@asynccontextmanager
async def documented_proxy(kind: str, folder: Path, port: int) -> AsyncIterator[int]:
    if kind == "nginx":
        async with nginx(folder, documented("location", port), tls=True) as found:
            yield found
    else:
        async with caddy(folder, documented("handle_path", port)) as found:
            yield found


@pytest.fixture(params=["nginx", "caddy"])
async def site(request, trusting, tmp_path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """`localhost:port/robots/backend` behind one of the proxies, and what its certificate is trusted with."""
    if {"nginx": NGINX, "caddy": CADDY}[request.param] is None:
        pytest.skip(f"{request.param} is missing: apt-get install {request.param}")
    context = ssl.create_default_context(cafile=make_certificate(tmp_path))
    async with documented_proxy(request.param, tmp_path, trusting.port) as port:
        yield f"localhost:{port}{PREFIX}", context


@pytest.fixture
async def http(site) -> AsyncIterator[httpx.AsyncClient]:
    address, context = site
    async with httpx.AsyncClient(
        base_url=f"https://{address}", verify=context, timeout=PATIENCE_S, follow_redirects=False
    ) as client:
        yield client


def metadata(**fields: str) -> dict[str, str]:
    """`Upload-Metadata` of these fields."""
    pairs = [f"{key} {b64encode(value.encode()).decode()}" for key, value in fields.items()]
    return {"Upload-Metadata": ",".join(pairs)}


async def test_addresses_in_answers(http, site):
    """`Location` is the address that the client uses, with TLS and the path; 5 MB go in one request."""
    content = b"x" * (5 * MIB)
    about = metadata(kind="dataset", robot_id="robot_A", dataset="me/ds", path="meta/a.txt")
    made = await http.post("/files/", headers={**TUS, **about, "Upload-Length": str(len(content))})
    location = made.headers["Location"]
    assert location.startswith(f"https://{site[0]}/files/"), made.text
    sent = await http.patch(
        location,
        content=content,
        headers={**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
    )
    assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, str(len(content)))
    fields = {"robot_id": "robot_A", "dataset": "me/ds", "path": "meta/b.txt"}
    form = await http.post("/upload/sync/", data=fields, files={"file": content})
    assert (form.is_success, form.json()["size_bytes"]) == (True, len(content))
    for name in ("a", "b"):
        stored = await http.get(
            f"/datasets/robot_A/me/ds/files/meta/{name}.txt", headers={"Range": "bytes=-9"}
        )
        assert (stored.status_code, stored.content) == (206, b"x" * 9)


async def test_the_pages(http):
    """The description and the page of it are there, and the page's links stay within the path."""
    page = await http.get("/docs")
    assert page.status_code == 200
    for link in re.findall(r'href="([^"#][^"]*)"', page.text):
        assert (await http.get(str(page.url.join(link)))).status_code == 200, link
        assert str(page.url.join(link)).startswith(str(http.base_url)), link


async def test_a_page_of_the_site_may_write(http, site):
    """A browser sends the site's origin; another site's is refused."""
    own = f"https://{site[0].partition('/')[0]}"
    assert (await http.post("/files/plan", json={}, headers={"Origin": own})).status_code == 422
    other = await http.post("/files/plan", json={}, headers={"Origin": "https://evil.example"})
    assert (other.status_code, other.json()["code"]) == (403, "forbidden")


async def test_what_a_client_makes_up_does_not_count(http, site):
    """The proxies replace what clients send in these headers themselves."""
    lies = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=1.2.3.4;host=evil.example;proto=http",
    }
    about = metadata(kind="dataset", robot_id="robot_A", dataset="me/ds", path="meta/c.txt")
    made = await http.post("/files", headers={**TUS, **about, **lies, "Upload-Length": "1"})
    assert made.headers["Location"].startswith(f"https://{site[0]}/files/")


async def test_websocket(site):
    """Frames pass, and are acknowledged."""
    address, context = site
    async with connect(f"wss://{address}/ws/log/robot_A", ssl=context) as line:
        await line.send(json.dumps({"observation": {"a": 1}}))
        async with asyncio.timeout(PATIENCE_S):
            while json.loads(await line.recv()).get("next") != 1:
                pass


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_nobody_is_local_behind_a_proxy(closed, tmp_path, kind):
    """Although the proxy runs under the backend's own account; with a token, any name of the site will do."""
    if {"nginx": NGINX, "caddy": CADDY}[kind] is None:
        pytest.skip(f"{kind} is missing: apt-get install {kind}")
    context = ssl.create_default_context(cafile=make_certificate(tmp_path))
    words = ("tokens", "add", "anna", "--role", "viewer")
    program = Path(sys.executable).with_name("lerobot-backend")
    making = await asyncio.create_subprocess_exec(
        program, *words, env=closed.environment, stdout=subprocess.PIPE
    )
    made = (await making.communicate())[0].decode().strip()
    bearer = {"Authorization": f"Bearer {made}"}
    async with (
        documented_proxy(kind, tmp_path, closed.port) as port,
        httpx.AsyncClient(
            base_url=f"https://localhost:{port}{PREFIX}", verify=context, timeout=PATIENCE_S
        ) as http,
    ):
        refused = await http.get("/sessions")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert "through a proxy" in refused.json()["detail"]
        named = {**bearer, "Host": "robots.example.com"}
        assert (await http.get("/sessions", headers=named)).status_code == 200


DEFAULTS = "location / {{ proxy_pass http://127.0.0.1:{port}; }}"


@needs_nginx
async def test_nginx_with_its_defaults(unaware, tmp_path):
    """Reading, small uploads and compressed answers work, and `Location` leads through nginx."""
    async with (
        nginx(tmp_path, DEFAULTS.format(port=unaware.port)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http,
    ):
        description = await http.get("/openapi.json")
        assert description.headers["Content-Encoding"] == "gzip"
        assert description.json()["openapi"].startswith("3.")
        about = metadata(kind="dataset", robot_id="robot_A", dataset="me/ds", path="meta/a.txt")
        made = await http.post("/files", headers={**TUS, **about, "Upload-Length": "5"})
        assert made.headers["Location"].startswith(f"http://127.0.0.1:{port}/files/")
        sent = await http.patch(
            made.headers["Location"],
            content=b"12345",
            headers={**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
        )
        assert sent.status_code == 204


@needs_nginx
async def test_what_nginx_lacks_is_named(unaware, tmp_path):
    """A browser that may not write, and our own client whose file is too large, name nginx's settings."""
    content = b"x" * (2 * MIB)
    (tmp_path / "notes.txt").write_bytes(content)
    async with (
        nginx(tmp_path, DEFAULTS.format(port=unaware.port)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http,
    ):
        browser = await http.post("/exports", json={}, headers={"Origin": f"http://127.0.0.1:{port}"})
        assert browser.status_code == 403
        assert "proxy_set_header Host $http_host" in browser.json()["hint"]
        async with Uploader(f"http://127.0.0.1:{port}") as uploader:
            with (
                (tmp_path / "notes.txt").open("rb") as file,
                pytest.raises(Interrupted, match="In nginx: client_max_body_size 0;"),
            ):
                await uploader.upload(
                    FilePlan(dataset_file(content, "meta/notes.txt")), FileBytes(file.fileno())
                )
