"""A robot sends no more than it may, whatever the number of uploads and replicas, until there is room."""

import asyncio
import hashlib
import os

import msgspec
import pytest
import pytest_asyncio
from teleop_schema.files import DatasetFile, FilePlan
from teleop_testing.backends.serving import client_of, serving
from teleop_testing.robots.tus import TUS, metadata_of
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.api import multipart_endpoints
from teleop_video_ingest.app import create_app
from teleop_video_ingest.settings import IngestSettings
from teleop_video_ingest.uploads import quotas

MIB = 1024 * 1024
QUOTA_GB = 0.01
QUOTA_BYTES = 10_000_000
REACHED = (507, "quota_reached", True)


@pytest.fixture
def settings(database_url, store_root):
    return IngestSettings(
        database_url=database_url, store_url=str(store_root), robot_quota_gb=QUOTA_GB, _env_file=None
    )


@pytest_asyncio.fixture
async def service(settings):
    """Address of a video-ingest-service where the files of a robot may take QUOTA_BYTES."""
    async with serving(create_app(settings)) as address:
        yield address


@pytest.fixture(autouse=True)
def counted_at_once(monkeypatch):
    """Whatever is removed is noticed at the next upload."""
    monkeypatch.setattr(quotas, "COUNT_EVERY_S", 0.0)


def outcome(answer):
    problem = answer.json()
    return answer.status_code, problem["code"], problem["retryable"]


async def sync(http, content, path="a.parquet", *, robot_id="robot_A", dataset="ds", **told):
    form = {"robot_id": robot_id, "dataset": dataset, "path": path, **told}
    return await http.post("/upload/sync", data=form, files={"file": content})


async def plan(http, content, path="a.parquet", *, robot_id="robot_A"):
    sha256 = hashlib.sha256(content).hexdigest()
    file = DatasetFile(robot_id=robot_id, dataset="ds", path=path, size_bytes=len(content), sha256=sha256)
    return await http.post("/files/plan", content=msgspec.json.encode(FilePlan(file)))


async def create(http, length, path, *, robot_id="robot_A"):
    told = metadata_of({"kind": "dataset", "robot_id": robot_id, "dataset": "ds", "path": path})
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    return await http.post("/files", headers={**TUS, **size, **told})


async def patch(http, answer, content, **headers):
    told = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0", **headers}
    return await http.patch(answer.headers["location"], headers=told, content=content)


async def test_beyond_its_quota_a_robot_is_refused_whichever_way_it_sends(http):
    """With the quota, what is used, and what to do; others are not concerned."""
    assert (await sync(http, os.urandom(9 * MIB))).status_code == 201
    more = os.urandom(MIB)
    for answer in (
        await sync(http, more, "b.parquet"),
        await plan(http, more, "b.parquet"),
        await create(http, MIB, "b.parquet"),
    ):
        assert outcome(answer) == REACHED
        problem = answer.json()
        assert problem["limit"] == QUOTA_BYTES
        assert "take 9.4 MB of the 10.0 MB" in problem["detail"]
        assert "LEROBOT_BACKEND_ROBOT_QUOTA_GB" in problem["hint"]
    untold = await create(http, None, "b.parquet")
    assert untold.status_code == 201
    assert outcome(await patch(http, untold, more, **{"Upload-Length": str(MIB)})) == REACHED
    assert (await sync(http, os.urandom(500_000), "small.json")).status_code == 201
    assert (await sync(http, more, robot_id="robot_B")).status_code == 201


async def test_a_file_that_is_there_takes_no_more(http, database):
    """Under another name it is stored once; so are those of another robot, which it takes all the same."""
    content = os.urandom(6 * MIB)
    await sync(http, content, robot_id="robot_B")
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        assert (await sync(http, content, name)).status_code in (200, 201)
        assert (await plan(http, content, name)).json()["receipt"]["sha256"]
    assert outcome(await sync(http, os.urandom(4 * MIB), "d.parquet")) == REACHED
    assert (await sync(http, os.urandom(3 * MIB), "d.parquet")).status_code == 201
    used = await database.fetch("SELECT robot_id, used_bytes FROM robot_usage ORDER BY robot_id")
    assert [(row["robot_id"], row["used_bytes"]) for row in used] == [
        ("robot_A", 9 * MIB),
        ("robot_B", 6 * MIB),
    ]


async def test_parallel_uploads_share_one_quota(http, settings):
    """Also those at another replica: an upload that has begun has its place, and comes to its end."""
    async with serving(create_app(settings)) as other, client_of(other) as elsewhere:
        files = [os.urandom(3 * MIB) for _ in range(8)]
        places = [http, elsewhere] * 4
        answers = await asyncio.gather(
            *(
                plan(each, content, f"{n}.parquet")
                for n, (each, content) in enumerate(zip(places, files, strict=True))
            )
        )
        begun = [n for n, answer in enumerate(answers) if answer.status_code == 200]
        assert len(begun) <= 3
        assert {outcome(answer) for answer in answers if answer.status_code != 200} == {REACHED}
        for n in [n for n in range(8) if n not in begun]:
            if (await plan(elsewhere, files[n], f"{n}.parquet")).status_code == 200:
                begun.append(n)
        assert len(begun) == 3
        for n in begun:
            told = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
            again = (await plan(http, files[n], f"{n}.parquet")).json()
            done = await elsewhere.patch(again["upload"], headers=told, content=files[n])
            assert done.status_code == 204
            assert (await plan(http, files[n], f"{n}.parquet")).json()["receipt"]


async def test_a_robot_is_warned_and_goes_on_when_there_is_room(http, database):
    """From 90 % on, it hears how much it takes; what is removed makes room."""
    first = await plan(http, os.urandom(10), "first")
    assert "quota" not in first.json()
    content = os.urandom(9_500_000)
    assert (await sync(http, content)).status_code == 201
    warned = (await plan(http, b"x", "more.json")).json()
    assert warned["quota"] == {"used_bytes": 9_500_000, "limit_bytes": QUOTA_BYTES}
    more = os.urandom(MIB)
    assert outcome(await plan(http, more, "b.parquet")) == REACHED
    await database.connection.execute("DELETE FROM dataset_file")
    again = (await plan(http, more, "b.parquet")).json()
    assert "quota" not in again
    assert again["missing"] == [[0, MIB]]


async def test_everybody_who_looks_sees_that_a_robot_waits(http, pool):
    """In the metrics and in the answer about readiness, which names no robot and stays ready."""
    await sync(http, os.urandom(QUOTA_BYTES))
    await sync(http, os.urandom(9_500_000), robot_id="robot_B")
    watch = quotas.Quotas(pool, QUOTA_BYTES)
    await watch.check_all()
    await watch.look()
    with pytest.raises(RuntimeError, match=r"^1 robot may not send more files before there is room"):
        await watch.check_all()
    metrics = (await http.get("/metrics")).text
    assert 'robots_near_quota{state="used"} 1.0' in metrics
    assert 'robots_near_quota{state="nearly_used"} 1.0' in metrics
    assert (await http.get("/readyz")).status_code == 200


async def test_a_robots_own_quota_goes_before_that_of_all(http, database, pool):
    """A larger one and a smaller one, as soon as it is set; without one of all, too."""
    add = "INSERT INTO robot_quota (robot_id, limit_bytes) VALUES ('robot_A', $1)"
    await database.connection.execute(add, 2 * QUOTA_BYTES)
    assert (await sync(http, os.urandom(QUOTA_BYTES + 1))).status_code == 201
    await database.connection.execute("UPDATE robot_quota SET limit_bytes = $1", MIB)
    refused = await sync(http, b"x", "b.parquet")
    assert (outcome(refused), refused.json()["limit"]) == (REACHED, MIB)
    none_of_all = quotas.Quotas(pool, None)
    assert (await none_of_all.near("robot_A")).limit_bytes == MIB
    assert await none_of_all.near("robot_B") is None
    await none_of_all.look()
    with pytest.raises(RuntimeError, match=r"^1 robot "):
        await none_of_all.check_all()


async def begin_form(service, size, *, chunked=False, **more):
    """Sends a form up to the first bytes of its file, which has that size; the line with its answer."""
    form = {"robot_id": "robot_A", "dataset": "ds", "path": "b.parquet", **more}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in form.items()]
    parts.append('--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nPAR1')
    head = "".join(parts).encode()
    length = len(head) - len(b"PAR1") + size + len(b"\r\n--b--\r\n")
    if chunked:
        head = b"%x\r\n%s\r\n%x\r\n%s\r\n" % (len(head), head, size, bytes(size))
    host, port = service.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    told = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    request = (
        f"POST /upload/sync HTTP/1.1\r\nHost: {service}\r\n{told}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    writer.write(request.encode() + head)
    try:
        return await asyncio.wait_for(reader.readline(), PATIENCE_S)
    finally:
        writer.close()


async def test_a_form_hears_of_the_quota_before_its_bytes_are_sent(service, http, monkeypatch):
    """Whether it names its SHA-256 in front of the file or not, and its length or not."""
    assert b" 507 " in await begin_form(service, QUOTA_BYTES + 1)
    assert (await sync(http, os.urandom(9 * MIB))).status_code == 201
    assert b" 507 " in await begin_form(service, MIB)
    assert b" 507 " in await begin_form(service, MIB, sha256="0" * 64)
    monkeypatch.setattr(multipart_endpoints, "CHECK_EVERY_BYTES", 64 * 1024)
    for more in ({}, {"sha256": "0" * 64}):
        assert b" 507 " in await begin_form(service, MIB, chunked=True, **more)


async def test_a_form_fits_to_the_last_byte(http):
    """What is counted before its bytes come is the file, without what is around it."""
    content = os.urandom(QUOTA_BYTES)
    sha256 = hashlib.sha256(content).hexdigest()
    assert (await sync(http, content, sha256=sha256)).status_code == 201
    assert (await sync(http, content, "again.parquet", sha256=sha256)).status_code == 201
    assert outcome(await sync(http, b"x", "b.parquet", sha256=hashlib.sha256(b"x").hexdigest())) == REACHED
