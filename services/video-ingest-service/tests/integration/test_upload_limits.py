"""How much is let in: no more bytes than fit in the end, no more uploads of a robot than it may have."""

import asyncio
import base64
import hashlib
import os
import struct

import msgspec
import pytest
import pytest_asyncio
from teleop_runtime.store.local import LocalStore
from teleop_schema.files import DatasetFile, FilePlan
from teleop_testing.backends.serving import serving
from teleop_video_ingest.app import create_app
from teleop_video_ingest.settings import IngestSettings

MIB = 1024 * 1024
DISK_BYTES = 10 * MIB
TUS = {"Tus-Resumable": "1.0.0"}
MAX_OPEN = 3
PARALLEL = 20


@pytest_asyncio.fixture
async def service(database_url, store_root):
    """Address of a video-ingest-service where a robot may have MAX_OPEN unfinished uploads."""
    settings = IngestSettings(
        database_url=database_url, store_url=str(store_root), max_open_uploads=MAX_OPEN, _env_file=None
    )
    async with serving(create_app(settings)) as address:
        yield address


@pytest.fixture
def small_disk(monkeypatch):
    """The store is on a disk that takes DISK_BYTES."""

    def room(self):
        taken = sum(path.stat().st_size for path in self.root.glob(".*/**/*") if path.is_file())
        return DISK_BYTES - taken, DISK_BYTES - taken

    monkeypatch.setattr(LocalStore, "_room", room)


async def create(http, length, path="a.parquet", *, robot_id="robot_A"):
    told = {"robot_id": robot_id, "dataset": "ds", "path": path}
    pairs = (f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in told.items())
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    return await http.post("/files", headers={**TUS, **size, "Upload-Metadata": ",".join(pairs)})


async def created(http, length, path="a.parquet", **more):
    answer = await create(http, length, path, **more)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


async def patch(http, address, offset, content, **headers):
    told = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset), **headers}
    answer = await http.patch(address, content=content, headers=told)
    assert answer.status_code == 204, answer.text


def plan_of(*pieces, path="a.parquet"):
    """A file of these pieces, each of them a chunk."""
    content = b"".join(pieces)
    sha256 = hashlib.sha256(content).hexdigest()
    file = DatasetFile(robot_id="robot_A", dataset="ds", path=path, size_bytes=len(content), sha256=sha256)
    chunks = (struct.pack("<I16s", len(piece), hashlib.sha256(piece).digest()[:16]) for piece in pieces)
    return msgspec.json.encode(FilePlan(file, b"".join(chunks)))


async def plan(http, *pieces, **more):
    return await http.post("/files/plan", content=plan_of(*pieces, **more))


def no_room(answer):
    assert (answer.status_code, answer.json()["code"]) == (507, "no_space"), answer.text


async def expire(database, address):
    await database.connection.execute(
        "UPDATE upload SET expires_at = now() - interval '1 s' WHERE id = $1", address.rpartition("/")[2]
    )


async def test_uploads_that_do_not_fit_together(http, small_disk, database, store_root):
    """Each of them would, the third has no room beside the others: 507 tells what is needed and what there
    is, and nothing of it stays."""
    for path in ("a.parquet", "b.parquet"):
        await created(http, 4 * MIB, path)
    refused = await create(http, 3 * MIB, "c.parquet")
    no_room(refused)
    assert refused.json()["limit"] == 2 * MIB
    assert f"no room for {3 * MIB} more bytes" in refused.json()["detail"]
    assert f"{8 * MIB} are reserved for uploads in progress" in refused.json()["detail"]
    assert await database.value("SELECT count(*) FROM upload") == 2
    assert len(list((store_root / ".incoming").iterdir())) == 2
    await created(http, 2 * MIB, "c.parquet")


async def test_what_has_come_counts_once(http, small_disk):
    """Bytes that were received take up the disk, and are awaited no more."""
    address = await created(http, 4 * MIB)
    await patch(http, address, 0, os.urandom(3 * MIB))
    await created(http, 6 * MIB, "b.parquet")
    no_room(await create(http, 1, "c.parquet"))


@pytest.mark.parametrize("ending", ["finished", "given up", "expired"])
async def test_room_is_free_again(http, small_disk, database, ending):
    """What an upload would have received counts no longer once it has ended."""
    address = await created(http, 8 * MIB)
    no_room(await create(http, 3 * MIB, "b.parquet"))
    if ending == "finished":
        await patch(http, address, 0, bytes(8 * MIB))
        no_room(await create(http, 3 * MIB, "b.parquet"))
    elif ending == "given up":
        await http.delete(address, headers=TUS)
    else:
        await expire(database, address)
    # The name of a dataset with a file is noted, which takes some bytes.
    await created(http, 2 * MIB - 1024 if ending == "finished" else 9 * MIB, "b.parquet")


async def test_other_ways_in_find_no_room_either(http, small_disk):
    """Plans, forms, and a length that is told late count what open uploads await."""
    await created(http, 8 * MIB)
    content = os.urandom(3 * MIB)
    no_room(await plan(http, content, path="b.parquet"))
    fields = {"robot_id": "robot_A", "dataset": "ds", "path": "c.parquet"}
    no_room(await http.post("/upload/sync", data=fields, files={"file": ("f", content)}))
    address = await created(http, None, "d.parquet")
    headers = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    no_room(await http.patch(address, content=b"x", headers={**headers, "Upload-Length": str(3 * MIB)}))
    await patch(http, address, 0, content[:1000], **{"Upload-Length": "1000"})
    assert (await plan(http, content[:MIB], path="b.parquet")).status_code == 200


async def test_file_that_is_put_together_needs_room_for_all_of_it(http, small_disk):
    """Few bytes of a grown file are sent, but it is written anew beside what it grew from."""
    content, grown_by = os.urandom(4 * MIB), os.urandom(100_000)
    await patch(http, (await plan(http, content)).json()["upload"], 0, content)
    address = await created(http, 2 * MIB, "b.parquet")
    no_room(await plan(http, content, grown_by))
    await http.delete(address, headers=TUS)
    planned = (await plan(http, content, grown_by)).json()
    assert planned["missing"] == [[len(content), len(grown_by)]]
    no_room(await create(http, 2 * MIB, "b.parquet"))
    await patch(http, planned["upload"], 0, grown_by)
    assert (await plan(http, content, grown_by)).json()["receipt"]


async def test_a_robot_has_so_many_unfinished_uploads(http, database, store_root):
    """One more is 429, by name, with what can be done; other robots are not concerned."""
    for number in range(MAX_OPEN):
        await created(http, 10, f"{number}.parquet")
    for answer in (
        await create(http, 10, "more.parquet"),
        await plan(http, b"more"),
    ):
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
        assert (problem["code"], problem["field"], problem["limit"]) == (
            "too_many_uploads",
            "robot_id",
            MAX_OPEN,
        )
        assert "DELETE" in problem["hint"]
        assert "7 days" in problem["hint"]
    assert await database.value("SELECT count(*) FROM upload") == MAX_OPEN
    assert len(list((store_root / ".incoming").iterdir())) == MAX_OPEN
    await created(http, 10, robot_id="robot_B")


async def test_ended_uploads_are_not_counted(http, database):
    """Neither finished nor given up nor expired ones; the upload of a plan that is there is not a new one."""
    addresses = [await created(http, 4, f"{number}.parquet") for number in range(MAX_OPEN)]
    await patch(http, addresses[0], 0, b"four")
    await created(http, 4, "again-0.parquet")
    assert (await http.delete(addresses[1], headers=TUS)).status_code == 204
    await created(http, 4, "again-1.parquet")
    await expire(database, addresses[2])
    planned = await plan(http, b"planned")
    assert (await plan(http, b"planned")).json() == planned.json()
    assert (await create(http, 4, "more.parquet")).status_code == 429


async def test_at_the_same_time(http):
    """Of many that come together, no more than the limit get in."""
    answers = await asyncio.gather(*(create(http, 10, f"{number}.parquet") for number in range(PARALLEL)))
    let_in = [answer for answer in answers if answer.status_code == 201]
    assert len(let_in) <= MAX_OPEN
    assert {answer.status_code for answer in answers} <= {201, 429}
