"""Uploads of what the server lacks."""

import asyncio
import hashlib
import os
import random
import struct
from contextlib import suppress

import httpx
import msgspec
import pytest
from teleop_schema.files import DatasetFile, FilePlan, Planned
from teleop_testing.backends.processes import ingest_process
from teleop_testing.robots.tus import arrived_bytes
from teleop_testing.waiting import PATIENCE_S, until
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.uploads.uploads import Uploads

MIB = 1024 * 1024
CHUNK = 16 * 1024
HEAD = {"Tus-Resumable": "1.0.0"}
BODY = {**HEAD, "Content-Type": "application/offset+octet-stream"}
STORED = "robot_A/me/ds/data/file-000.parquet"


def chunks_of(content: bytes) -> bytes:
    """Records of chunks of one size; where they end does not matter to the server."""
    pieces = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    return b"".join(struct.pack("<I16s", len(p), hashlib.sha256(p).digest()[:16]) for p in pieces)


def plan_of(content: bytes, *, delta: bool = True, **changes) -> FilePlan:
    fields = {
        "robot_id": "robot_A",
        "dataset": "me/ds",
        "path": "data/file-000.parquet",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **changes,
    }
    return FilePlan(DatasetFile(**fields), chunks_of(content) if delta else b"")


async def ask(http, plan: FilePlan) -> Planned:
    answer = await http.post("/files/plan", content=msgspec.json.encode(plan))
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Planned)


async def send(http, planned: Planned, content: bytes, *, offset: int = 0, upto: int | None = None):
    body = b"".join(content[start : start + length] for start, length in planned.missing)
    headers = {**BODY, "Upload-Offset": str(offset)}
    return await http.patch(planned.upload, content=body[offset:upto], headers=headers)


async def offset_of(http, planned: Planned) -> int:
    return int((await http.head(planned.upload, headers=HEAD)).headers["Upload-Offset"])


async def stored(http, content: bytes) -> None:
    planned = await ask(http, plan_of(content))
    assert (await send(http, planned, content)).status_code == 204


def missing_bytes(planned: Planned) -> int:
    return sum(length for _, length in planned.missing)


@pytest.fixture
def content() -> bytes:
    return random.Random(1).randbytes(2 * MIB)


async def test_new_file(http, content, store_root):
    """Of a new file all bytes are missing; when they are sent, the same plan is answered with the receipt."""
    planned = await ask(http, plan_of(content))
    assert planned.missing == ((0, len(content)),)
    assert planned.receipt is None
    assert (await send(http, planned, content)).status_code == 204
    done = await ask(http, plan_of(content))
    assert (done.upload, done.missing) == (None, ())
    assert done.receipt is not None
    assert (done.receipt.path, done.receipt.size_bytes) == (STORED, len(content))
    assert (store_root / STORED).read_bytes() == content


async def test_grown_file(http, content, store_root):
    """Of a file that has grown at its end, only what is new is sent."""
    await stored(http, content)
    grown = content + os.urandom(100_000)
    planned = await ask(http, plan_of(grown))
    assert missing_bytes(planned) < 100_000 + CHUNK
    assert (await send(http, planned, grown)).status_code == 204
    assert (store_root / STORED).read_bytes() == grown
    assert (await ask(http, plan_of(grown))).receipt is not None


async def test_moved_bytes(http, content, store_root):
    """Bytes that only moved within the file are not sent again, not even one of them."""
    await stored(http, content)
    turned = content[MIB:] + content[:MIB]
    done = await ask(http, plan_of(turned))
    assert done.receipt is not None
    assert (store_root / STORED).read_bytes() == turned


async def test_without_chunks(http, content):
    """Who sends no chunks sends the whole file."""
    await stored(http, content)
    grown = content + b"more"
    assert missing_bytes(await ask(http, plan_of(grown, delta=False))) == len(grown)


async def test_same_plan_same_upload(http, content, store_root):
    """A client without memory finds its unfinished upload by its plan, and goes on where it ended."""
    planned = await ask(http, plan_of(content))
    assert (await send(http, planned, content, upto=MIB)).status_code == 204
    again = await ask(http, plan_of(content))
    assert again == planned
    assert await offset_of(http, again) == MIB
    assert (await send(http, again, content, offset=MIB)).status_code == 204
    assert (store_root / STORED).read_bytes() == content


async def test_plans_at_once(http, content, database):
    """However many ask at once, there is one upload."""
    answers = await asyncio.gather(*(ask(http, plan_of(content)) for _ in range(10)))
    assert len({planned.upload for planned in answers}) == 1
    assert await database.value("SELECT count(*) FROM upload") == 1


async def test_two_senders(http, content, store_root):
    """Two clients that send the same upload at once end with one file; whoever is behind asks again."""

    async def insist() -> None:
        while (answer := await http.post("/files/plan", content=plan)).status_code in (200, 423):
            if answer.status_code == 200:
                planned = msgspec.json.decode(answer.content, type=Planned)
                if planned.receipt is not None:
                    return
                offset = await http.head(planned.upload, headers=HEAD)
                await send(http, planned, content, offset=int(offset.headers.get("Upload-Offset", 0)))
        raise AssertionError(answer.text)

    plan = msgspec.json.encode(plan_of(content))

    await asyncio.gather(insist(), insist(), insist())
    assert (store_root / STORED).read_bytes() == content
    assert list((store_root / ".incoming").iterdir()) == []


async def test_empty_file(http, store_root):
    """A file without bytes needs no upload."""
    assert (await ask(http, plan_of(b""))).receipt is not None
    assert (store_root / STORED).read_bytes() == b""


async def test_wrong_bytes(http, content, store_root):
    """What came out as another file is refused; the next plan begins anew, and asks for everything."""
    await stored(http, content)
    grown = content + os.urandom(50_000)
    planned = await ask(http, plan_of(grown))
    assert missing_bytes(planned) < len(grown)
    answer = await send(http, planned, grown[:-1] + b"?")
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_mismatch")
    assert (store_root / STORED).read_bytes() == content
    anew = await ask(http, plan_of(grown))
    assert anew.upload != planned.upload
    assert missing_bytes(anew) == len(grown)
    assert (await send(http, anew, grown)).status_code == 204
    assert (store_root / STORED).read_bytes() == grown


async def test_damaged_base(http, content, store, store_root):
    """A base that has rotted on the server's disk costs one whole upload, and is never passed on."""
    await stored(http, content)
    rotten = store._object(hashlib.sha256(content).hexdigest())
    rotten.chmod(0o644)
    rotten.write_bytes(b"?" + content[1:])
    grown = content + b"more" * 9999
    planned = await ask(http, plan_of(grown))
    assert (await send(http, planned, grown)).status_code == 460
    anew = await ask(http, plan_of(grown))
    assert (await send(http, anew, grown)).status_code == 204
    assert (store_root / STORED).read_bytes() == grown


async def test_base_gone_while_nothing_is_missing(http, content, store):
    """If all bytes were to come from a base that is gone, the plan asks for them instead."""
    await stored(http, content)
    await store.remove(hashlib.sha256(content).hexdigest())
    turned = content[MIB:] + content[:MIB]
    assert missing_bytes(await ask(http, plan_of(turned))) == len(turned)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"robot_id": "a b"}, "robot_id"),
        ({"path": "../x.json"}, "path"),
        ({"dataset": ""}, "dataset"),
        ({"sha256": "x"}, "file.sha256"),
        ({"size_bytes": -1}, "file.size_bytes"),
        ({"size_bytes": 2 * MIB + 1}, "chunks"),
        ({"size_bytes": 51 * 1024**3}, "file.size_bytes"),
    ],
)
async def test_bad_plans(http, content, database, change, field):
    """A plan that can't be is refused by name, and leaves nothing."""
    answer = await http.post("/files/plan", content=msgspec.json.encode(plan_of(content, **change)))
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert await database.value("SELECT count(*) FROM upload") == 0


async def test_largest_plan(http):
    """A plan may hold the chunks of a file of 1 GiB; one of more than 4 MiB is refused."""
    records = b"".join(struct.pack("<I16s", CHUNK, os.urandom(16)) for _ in range(65_536))
    plan = FilePlan(plan_of(b"", size_bytes=1024**3, sha256="ab" * 32).file, records)
    assert missing_bytes(await ask(http, plan)) == 1024**3
    answer = await http.post("/files/plan", content=b"[" * (4 * MIB + 1))
    assert (answer.status_code, answer.json()["limit"]) == (413, 4 * MIB)


async def test_killed_service(database_url, store_root, content):
    """After kill -9 of the service in the middle of an upload, the same plan goes on with what is there."""
    with ingest_process(database_url, store_root) as service:
        async with httpx.AsyncClient(base_url=f"http://{service.address}", timeout=PATIENCE_S) as http:
            planned = await ask(http, plan_of(content))
            assert (await send(http, planned, content, upto=MIB)).status_code == 204

            async def slowly():
                for start in range(MIB, 2 * MIB, 64 * 1024):
                    yield content[start : start + 64 * 1024]
                    await asyncio.sleep(0.02)

            patch = asyncio.create_task(
                http.patch(planned.upload, content=slowly(), headers={**BODY, "Upload-Offset": str(MIB)})
            )
            await asyncio.sleep(0.1)
            service.kill()
            with pytest.raises(httpx.TransportError):
                await patch
            service.start()
            again = await ask(http, plan_of(content))
            assert again == planned
            offset = await offset_of(http, again)
            assert MIB <= offset < 2 * MIB
            assert (await send(http, again, content, offset=offset)).status_code == 204
            assert (await ask(http, plan_of(content))).receipt is not None
    assert (store_root / STORED).read_bytes() == content


async def test_stopped_service(database_url, store_root, content):
    """A service that is asked to stop in the middle of an upload keeps what came, and stops."""
    with ingest_process(database_url, store_root) as service:
        async with httpx.AsyncClient(base_url=f"http://{service.address}", timeout=PATIENCE_S) as http:
            planned = await ask(http, plan_of(content))

            async def half_then_nothing():
                yield content[:MIB]
                await asyncio.Event().wait()

            patch = asyncio.create_task(
                http.patch(
                    planned.upload, content=half_then_nothing(), headers={**BODY, "Upload-Offset": "0"}
                )
            )
            await until(lambda: arrived_bytes(store_root))
            await asyncio.to_thread(service.stop)
            patch.cancel()
            with suppress(asyncio.CancelledError, httpx.TransportError):
                await patch
            service.start()
            offset = await offset_of(http, planned)
            assert 0 < offset <= MIB
            assert (await send(http, planned, content, offset=offset)).status_code == 204
    assert (store_root / STORED).read_bytes() == content


async def test_died_before_it_was_noted(http, pool, store, catalog, content, store_root, monkeypatch):
    """A service that dies with all bytes there, but the file not noted, finishes it when asked again."""
    planned = await ask(http, plan_of(content))
    upload_id = planned.upload.rpartition("/")[2]

    async def die(*_arguments, **_options):
        raise ConnectionResetError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr("teleop_video_ingest.files.catalog.Catalog.accept", die)
        assert (await send(http, planned, content)).status_code >= 500
    assert await offset_of(http, planned) == len(content)
    assert (await send(http, planned, content, offset=len(content))).status_code == 204
    assert (store_root / STORED).read_bytes() == content
    table = UploadTable(pool)
    assert (await table.find(upload_id)).finished_at is not None
    assert await Uploads(table, store, catalog).sweep() == 0


async def test_replicas(database_url, store_root, content):
    """Two services on one store and database take turns with one upload."""
    with ingest_process(database_url, store_root) as one, ingest_process(database_url, store_root) as two:
        async with (
            httpx.AsyncClient(base_url=f"http://{one.address}", timeout=PATIENCE_S) as first,
            httpx.AsyncClient(base_url=f"http://{two.address}", timeout=PATIENCE_S) as second,
        ):
            planned = await ask(first, plan_of(content))
            assert await ask(second, plan_of(content)) == planned
            for number, start in enumerate(range(0, 2 * MIB, MIB // 2)):
                http = (first, second)[number % 2]
                answer = await send(http, planned, content, offset=start, upto=start + MIB // 2)
                assert answer.status_code == 204
            assert (await ask(first, plan_of(content))).receipt is not None
    assert (store_root / STORED).read_bytes() == content


async def test_replica_is_busy(database_url, store_root, content):
    """While one service writes to an upload, another one refuses to, and knows what is durable."""
    with ingest_process(database_url, store_root) as one, ingest_process(database_url, store_root) as two:
        async with (
            httpx.AsyncClient(base_url=f"http://{one.address}", timeout=PATIENCE_S) as first,
            httpx.AsyncClient(base_url=f"http://{two.address}", timeout=PATIENCE_S) as second,
        ):
            planned = await ask(first, plan_of(content))
            go_on = asyncio.Event()

            async def half_then_wait():
                yield content[:MIB]
                await go_on.wait()
                yield content[MIB:]

            headers = {**BODY, "Upload-Offset": "0"}
            patch = asyncio.create_task(
                first.patch(planned.upload, content=half_then_wait(), headers=headers)
            )
            await until(lambda: arrived_bytes(store_root))
            busy = await send(second, planned, content, offset=7, upto=7)
            assert (busy.status_code, busy.json()["code"]) == (423, "upload_busy")
            go_on.set()
            assert (await patch).status_code == 204
