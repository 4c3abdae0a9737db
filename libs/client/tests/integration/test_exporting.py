"""`export-to-dataset` against a backend that misbehaves, over real sockets and as a process of its own."""

import asyncio
import io
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from teleop_client.backend_http import BackendHttp, Interrupted
from teleop_client.tar_stream import unpack_from
from teleop_testing.waiting import PATIENCE_S

DATA = b"rows" * 200_000
HTML = "<html><h1>502 Bad Gateway</h1></html>"


def archive() -> bytes:
    """An export as the backend sends it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in (("d/meta/info.json", b"{}"), ("d/data/file-000.parquet", DATA)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def problem(status: int, retryable: bool | None) -> web.Response:
    """What a backend of this release, or of an older one (None), refuses a request with."""
    told = {"type": "urn:lerobot-backend:x", "code": "x", "detail": "not like this", "hint": "do it so"}
    body = told | ({} if retryable is None else {"retryable": retryable})
    return web.Response(status=status, body=msgspec.json.encode(body))


class Backend:
    """Makes one export.

    answers    (method, end of the address) -> what is answered instead, one after the other
    cut_after  of the archive only so many bytes come, once each
    changes    whether it is another archive each time
    announces  size of the archive, instead of the real one; 0: none
    ranges     what was asked for of the archive
    error      with which the export fails
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[tuple[str, str], list[web.Response]] = {}
        self.cut_after: list[int] = []
        self.changes = False
        self.announces: int | None = None
        self.ranges: list[str | None] = []
        self.error: dict[str, object] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        for (method, end), left in self.answers.items():
            if left and request.method == method and request.path.endswith(end):
                return left.pop(0)
        if request.method == "POST":
            return web.json_response({"id": 1}, status=202)
        if request.path.endswith("/archive"):
            return await self._send(request)
        if request.path.endswith("/events"):
            return web.Response(status=404)
        state = {
            "progress": [],
            "push": None,
            "error": self.error,
            "status": "failed" if self.error else "done",
        }
        numbers = {"episodes": 1, "frames": 10}
        return web.json_response(state | {"numbers": numbers, "report": {"sessions": [], "cameras": []}})

    async def _send(self, request: web.Request) -> web.StreamResponse:
        content = archive()
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        etag = f'"{len(self.ranges) if self.changes else 0}"'
        begin = 0
        if asked and request.headers["If-Range"] == etag:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        content = content[begin:]
        headers = {"ETag": etag}
        if self.announces is None or self.announces:
            headers["Content-Length"] = str(self.announces or len(content))
        answer = web.StreamResponse(status=206 if begin else 200, headers=headers)
        await answer.prepare(request)
        if self.cut_after:
            await answer.write(content[: self.cut_after.pop(0)])
            request.transport.abort()
            return answer
        await answer.write(content)
        return answer


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    app = web.Application()
    app.router.add_route("*", "/{address:.*}", backend.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield backend
    await runner.cleanup()


async def run(backend: Backend, root: Path) -> tuple[int, str]:
    """Exit status, and what was said, of the command."""
    command = ["-m", "teleop_client.exporting.cli", "--session_id=1", "--repo_id=u/d"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        f"--backend_url={backend.url}",
        f"--root={root}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (lambda: problem(422, True), 75, "error: not like this\nhint: do it so"),
        (lambda: problem(503, False), 1, "error: not like this\nhint: do it so"),
        (lambda: problem(503, None), 75, "error: not like this\nhint: do it so"),
        (lambda: problem(422, None), 1, "error: not like this\nhint: do it so"),
        (
            lambda: web.Response(status=502, text=HTML),
            75,
            "answers 502 to POST /exports, which is not how",
        ),
        (
            lambda: web.Response(status=404, text=HTML),
            75,
            "answers 404 to POST /exports, which is not how",
        ),
    ],
)
async def test_the_status_says_whether_to_come_back(backend, tmp_path, answer, status, told):
    """75 if the same command can succeed later, 1 if not: as the backend says; no dataset is there."""
    backend.answers["POST", "/exports"] = [answer()]
    found = await run(backend, tmp_path / "made")
    assert (found[0], told in found[1]) == (status, True), found
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("retryable", "status"), [(True, 75), (False, 1)])
async def test_an_export_that_failed(backend, tmp_path, retryable, status):
    """What made it fail says whether the same can succeed later."""
    backend.error = {"code": "x", "detail": "not like this", "retryable": retryable}
    assert (await run(backend, tmp_path / "made"))[0] == status


async def test_a_backend_that_restarts_is_waited_for(backend, tmp_path):
    """While the export is followed and fetched: its own word that it is away, and a proxy's, end nothing."""
    away = [problem(503, True), web.Response(status=502, text=HTML)]
    backend.answers["GET", "/exports/1"] = [*away]
    backend.answers["GET", "/archive"] = [problem(503, True), web.Response(status=504, text=HTML)]
    backend.cut_after = [1000, 500_000]
    status, said = await run(backend, tmp_path / "made")
    assert status == 0, said
    assert "x: not like this; do it so; trying again" in said
    assert (tmp_path / "made/data/file-000.parquet").read_bytes() == DATA
    # An answer in between that is no archive does not make the download start again.
    assert backend.ranges == [None, "bytes=1000-", "bytes=501000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


async def test_an_archive_that_has_changed_starts_again(backend, tmp_path):
    """The rest of another archive is not put behind the beginning of this one."""
    backend.changes = True
    backend.cut_after = [1000]
    status, said = await run(backend, tmp_path / "made")
    assert status == 0, said
    assert "is another archive than before; trying again" in said
    assert backend.ranges == [None, "bytes=1000-", None]
    assert (tmp_path / "made/data/file-000.parquet").read_bytes() == DATA


async def test_an_archive_that_the_disk_has_no_room_for(backend, tmp_path):
    """Is refused before anything is written, and says how much it needs."""
    backend.announces = 10**18
    status, said = await run(backend, tmp_path / "made")
    assert status == 75, said
    assert "GB free, and the export needs 1000000000.00 GB" in said
    assert not list(tmp_path.iterdir())


async def test_an_archive_of_any_length_is_refused(backend, tmp_path):
    """Whoever does not say how much comes could fill the disk."""
    backend.announces = 0
    status, said = await run(backend, tmp_path / "made")
    assert (status, "does not say how long /exports/1/archive is" in said) == (1, True), said
    assert not list(tmp_path.iterdir())


async def test_a_backend_draws_nothing_on_the_terminal(backend, tmp_path):
    """Whatever it answers."""
    backend.error = {"code": "x", "detail": "\x1b[2Jall is well\r\n", "hint": "\u202e", "retryable": False}
    _, said = await run(backend, tmp_path / "made")
    assert r"error: \x1b[2Jall is well\r\n" in said
    assert r"hint: \u202e" in said
    assert "\x1b" not in said


async def test_a_download_waits_as_long_as_the_backend_says(backend):
    """`persevere` hears of it."""
    busy = problem(429, True)
    busy.headers["Retry-After"] = "30"
    backend.answers["GET", "/archive"] = [busy]
    async with BackendHttp(backend.url) as http:
        with pytest.raises(Interrupted) as caught:
            await unpack_from(http, "/exports/1/archive", tarfile.TarFile.getmembers, print, stumble)
    assert caught.value.retry_after_s == 30


def stumble(error: Interrupted) -> None:
    """Give up at once."""
    raise error
