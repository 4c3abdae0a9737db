"""The uploader against a backend that misbehaves, over real sockets and files."""

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from teleop_client.persevering import persevere
from teleop_client.throttle import BURST_S, Throttle
from teleop_client.uploading import (
    FileBytes,
    Interrupted,
    Refused,
    SourceChanged,
    Uploader,
    pieces_from,
)
from teleop_schema.files import DatasetFile, FilePlan, Manifest, ManifestFile
from teleop_testing.backends.file_backend import FileBackend, file_backend
from teleop_testing.waiting import until

CONTENT = random.Random(1).randbytes(3_000_000)


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[FileBackend]:
    async with file_backend() as backend:
        yield backend


@pytest_asyncio.fixture
async def uploader(backend: FileBackend) -> AsyncIterator[Uploader]:
    async with Uploader(backend.url.replace("http", "ws")) as uploader:
        yield uploader


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileBytes]:
    (tmp_path / "file").write_bytes(CONTENT)
    fd = os.open(tmp_path / "file", os.O_RDWR)
    yield FileBytes(fd)
    os.close(fd)


def plan_of(content: bytes, path: str = "data/chunk-000/file-000.parquet") -> FilePlan:
    digest = hashlib.sha256(content).hexdigest()
    return FilePlan(
        DatasetFile(robot_id="robot_A", dataset="me/set", path=path, size_bytes=len(content), sha256=digest)
    )


def stored(backend: FileBackend) -> bytes:
    return backend.content("robot_A", "me/set", "data/chunk-000/file-000.parquet")


async def test_a_file_arrives(uploader, backend, source):
    """The receipt is for the file's bytes, which are on the server; progress counts each of them once."""
    steps: list[int] = []
    receipt = await uploader.upload(plan_of(CONTENT), source, advance=steps.append)
    assert receipt.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert stored(backend) == CONTENT
    assert sum(steps) == uploader.sent_bytes == backend.received_bytes == len(CONTENT)


async def test_a_stored_file_is_not_sent_again(uploader, backend, source):
    """The plan of what the server has is answered with the receipt, and no byte goes out."""
    first = await uploader.upload(plan_of(CONTENT), source)
    again = await uploader.upload(plan_of(CONTENT), source)
    assert (again.path, again.sha256) == (first.path, first.sha256)
    assert backend.received_bytes == len(CONTENT)


@pytest.mark.parametrize("size", [0, 1, 70_000])
async def test_files_of_every_size(uploader, backend, tmp_path, size):
    """Empty and tiny files arrive as large ones do."""
    (tmp_path / "small").write_bytes(CONTENT[:size])
    with (tmp_path / "small").open("rb") as file:
        await uploader.upload(plan_of(CONTENT[:size]), FileBytes(file.fileno()))
    assert stored(backend) == CONTENT[:size]


async def test_a_cut_is_resumed(uploader, backend, source):
    """After two cuts the upload goes on where the server stands: no byte is received twice."""
    backend.cut_after.extend([1_000_000, 700_001])
    told: list[Interrupted] = []
    await persevere(lambda: uploader.upload(plan_of(CONTENT), source), report=told.append, jitter=lambda: 0.0)
    assert stored(backend) == CONTENT
    assert backend.received_bytes == len(CONTENT)
    assert len(told) == 2


async def test_another_process_goes_on(backend, source):
    """An uploader that knows nothing of an earlier one sends only what that one did not bring over."""
    backend.cut_after.append(2_000_000)
    async with Uploader(backend.url) as first:
        with pytest.raises(Interrupted):
            await first.upload(plan_of(CONTENT), source)
    async with Uploader(backend.url) as second:
        await second.upload(plan_of(CONTENT), source)
        assert second.sent_bytes == 1_000_000
    assert stored(backend) == CONTENT


async def resume_small(uploader, backend, tmp_path):
    """An upload of few bytes, cut off in the middle, ends whole."""
    content = CONTENT[:50_000]
    (tmp_path / "small").write_bytes(content)
    backend.cut_after.append(20_000)
    with (tmp_path / "small").open("rb") as file:
        source = FileBytes(file.fileno())
        await persevere(lambda: uploader.upload(plan_of(content), source), jitter=lambda: 0.0)
    assert stored(backend) == content


async def test_a_small_upload_is_resumed_too(uploader, backend, tmp_path):
    """Few bytes are sent without a question first; if the server has some already, it says so."""
    await resume_small(uploader, backend, tmp_path)
    assert not any(request.startswith("HEAD") for request in backend.requests[:2])


@pytest.mark.parametrize("status", [413, 403, 502, 200, 204])
async def test_a_proxy_that_lets_nothing_through_is_asked_less_and_less(uploader, backend, source, status):
    """It reads all bytes, then refuses, or says "done": the server has none of them, so the pauses grow."""

    class Refusal(web.HTTPException):
        status_code = status

    async def proxy(request: web.Request) -> None:
        if request.method == "PATCH":
            await request.content.read()
            raise Refusal

    backend.before = proxy
    told: list[Interrupted] = []
    trying = asyncio.create_task(
        persevere(lambda: uploader.upload(plan_of(CONTENT), source), report=told.append, jitter=lambda: -1.0)
    )
    await until(lambda: len(told) >= 4)
    trying.cancel()
    assert not any(error.progressed for error in told)
    assert str(status) in str(told[0])
    assert uploader.gained_bytes <= len(CONTENT)
    assert uploader.sent_bytes > uploader.gained_bytes


async def test_what_got_through_before_a_cut_is_progress(uploader, backend, source):
    """The server's offset has grown since the attempt before: the next one need not wait for long."""
    backend.cut_after += [1_000_000, 1_000_000, 500_000]
    told: list[Interrupted] = []
    await persevere(
        lambda: uploader.upload(plan_of(CONTENT), source), report=told.append, jitter=lambda: -1.0
    )
    assert [error.progressed for error in told] == [False, True, True]
    assert uploader.gained_bytes == len(CONTENT)


async def test_all_bytes_there_but_not_finished(uploader, backend, source):
    """An upload whose bytes are all there, of a server that died right then, is finished without more."""
    backend.cut_after.append(len(CONTENT))
    await persevere(lambda: uploader.upload(plan_of(CONTENT), source), jitter=lambda: 0.0)
    assert stored(backend) == CONTENT
    assert backend.received_bytes == len(CONTENT)


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "internal_error"), (503, "storage_unavailable"), (507, "no_space"), (429, "too_many_connections"),
     (404, "unknown_session"), (404, "not_found"), (423, "upload_busy"), (401, "unauthorized")],
)  # fmt: skip
@pytest.mark.parametrize("told", [True, None], ids=["told", "older release"])
async def test_what_time_can_heal(uploader, backend, source, status, code, told):
    """Such an answer is worth another try, which then succeeds, also if a release does not say it yet."""
    backend.retryable = lambda _code: told
    backend.refusals.append(("POST", "/files/plan", status, code))
    with pytest.raises(Interrupted, match=code):
        await uploader.upload(plan_of(CONTENT), source)
    await uploader.upload(plan_of(CONTENT), source)
    assert stored(backend) == CONTENT


@pytest.mark.parametrize(
    ("status", "code"), [(422, "bad_input"), (409, "chunk_conflict"), (413, "body_too_large")]
)
@pytest.mark.parametrize("told", [False, None], ids=["told", "older release"])
async def test_what_stays_refused(uploader, backend, source, status, code, told):
    """Such an answer is final, and says why, also if a release does not say it yet."""
    backend.retryable = lambda _code: told
    backend.refusals.append(("POST", "/files/plan", status, code))
    with pytest.raises(Refused, match="told to") as caught:
        await persevere(lambda: uploader.upload(plan_of(CONTENT), source))
    assert caught.value.code == code


@pytest.mark.parametrize(("status", "retryable"), [(409, True), (422, True), (404, False), (503, False)])
async def test_the_backends_word_counts_not_the_status(uploader, backend, source, status, retryable):
    """Whether it is tried again is what the backend says, whatever status and code it says it with."""
    backend.retryable = lambda _code: retryable
    backend.refusals.append(("POST", "/files/plan", status, "of_a_later_release"))
    with pytest.raises(Interrupted if retryable else Refused, match="told to"):
        await uploader.upload(plan_of(CONTENT), source)


# Of nginx without an upstream, with limits, with a login before it; of a gateway with JSON of its own.
FOREIGN = [
    (status, body)
    for status in (301, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504)
    for body in (
        "<html><title>no</title></html>",
        '{"code": "token_not_valid", "detail": "no", "retryable": false}',
        '{"type": "about:blank", "title": "no", "code": "no", "detail": "no", "retryable": false}',
    )
]


@pytest.mark.parametrize(("status", "body"), FOREIGN)
async def test_nobody_elses_answer_is_final(uploader, backend, source, status, body):
    """What did not come from the backend is tried again, whatever it says: nothing is given up for it."""

    async def proxy(_request: web.Request) -> None:
        if len(backend.requests) == 1:
            raise _answer(status, body)

    backend.before = proxy
    with pytest.raises(Interrupted, match=f"answers {status}") as caught:
        await uploader.upload(plan_of(CONTENT[:100]), source)
    assert caught.value.code is None


async def test_an_answer_to_head_has_no_reason(uploader, backend):
    """HTTP lets nobody say why in it, the backend neither, so nobody else is suspected."""

    async def busy(_request: web.Request) -> None:
        raise _answer(503, "left out", {"Retry-After": "7"})

    backend.before = busy
    with pytest.raises(Interrupted, match=r"answers 503 to HEAD /x$") as caught:
        async with uploader.backend.request("HEAD", "/x"):
            pass
    assert caught.value.retry_after_s == 7


def _answer(status: int, body: str, headers: dict[str, str] | None = None) -> web.HTTPException:
    class Answer(web.HTTPException):
        status_code = status

    return Answer(text=body, headers=headers)


async def test_an_older_backends_offset_is_asked_for(uploader, backend, tmp_path):
    """One that does not say `retryable` yet refuses an offset with 409: the upload goes on all the same."""
    backend.retryable = lambda _code: None
    await resume_small(uploader, backend, tmp_path)


async def test_a_lost_upload_starts_over(uploader, backend, source):
    """An upload that the server forgot on the way is planned anew."""
    backend.cut_after.append(1_000_000)
    with pytest.raises(Interrupted):
        await uploader.upload(plan_of(CONTENT), source)
    backend.uploads.clear()
    await uploader.upload(plan_of(CONTENT), source)
    assert stored(backend) == CONTENT


async def test_a_shrunk_file_is_noticed(uploader, backend, source, tmp_path):
    """A file that got shorter is not what was planned: nothing is stored, no room is kept for it."""
    os.truncate(tmp_path / "file", 1_000_000)
    with pytest.raises(SourceChanged, match="shorter"):
        await uploader.upload(plan_of(CONTENT), source)
    assert not backend.objects
    assert not backend.uploads


async def test_a_changed_file_is_noticed(uploader, backend, source, tmp_path):
    """Bytes other than the hashed ones are refused by the server, and then known to be the file's fault."""
    (tmp_path / "file").write_bytes(CONTENT[::-1])
    with pytest.raises(SourceChanged, match="hashed"):
        await uploader.upload(plan_of(CONTENT), source)
    assert not backend.objects


async def test_damage_on_the_way_is_healed(uploader, backend, source):
    """A checksum that fails though the file is the same is worth another try."""
    backend.cut_after.append(1_000_000)
    with pytest.raises(Interrupted):
        await uploader.upload(plan_of(CONTENT), source)
    (upload,) = backend.uploads.values()
    upload.body[10] ^= 1
    with pytest.raises(Interrupted, match="checksum_mismatch"):
        await uploader.upload(plan_of(CONTENT), source)
    await uploader.upload(plan_of(CONTENT), source)
    assert stored(backend) == CONTENT


async def test_nobody_there(source):
    """A server that can't be reached is worth another try."""
    async with Uploader("http://127.0.0.1:9") as uploader:
        with pytest.raises(Interrupted, match=r"127\.0\.0\.1:9"):
            await uploader.upload(plan_of(CONTENT), source)


async def test_versions(uploader, backend, source):
    """Files that are there make a version; the same manifest again makes no other one."""
    file = plan_of(CONTENT).file
    manifest = Manifest(
        files=(ManifestFile(file.path, file.size_bytes, file.sha256),),
        total_episodes=1,
        total_frames=10,
        finalised=True,
    )
    with pytest.raises(Interrupted) as caught:
        await uploader.commit("robot_A", "me/set", manifest)
    assert caught.value.code == "files_missing"
    await uploader.upload(plan_of(CONTENT), source)
    for _ in range(2):
        assert (await uploader.commit("robot_A", "me/set", manifest)).version == 1


async def test_throttled_uploads_share_the_rate():
    """Several uploads together take at least the time that their bytes need, less one burst."""
    throttle = Throttle(1_000_000)
    assert throttle.piece_bytes == 250_000
    begun_s = time.monotonic()
    async with asyncio.TaskGroup() as uploads:
        for _ in range(8):
            uploads.create_task(throttle.pass_through(100_000))
    assert time.monotonic() - begun_s >= 0.8 - 0.1 - BURST_S


def test_a_cap_lets_something_through():
    """A rate of nothing is refused."""
    with pytest.raises(ValueError, match="too low to send anything"):
        Throttle(0)


def test_pieces():
    """What follows an offset of the body, split so that no piece is larger than asked for."""
    missing = [(100, 10), (200, 25)]
    assert list(pieces_from(missing, 0, 10)) == [(100, 10), (200, 10), (210, 10), (220, 5)]
    assert list(pieces_from(missing, 4, 100)) == [(104, 6), (200, 25)]
    assert list(pieces_from(missing, 10, 100)) == [(200, 25)]
    assert list(pieces_from(missing, 35, 100)) == []
