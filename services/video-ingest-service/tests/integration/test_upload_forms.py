"""One file in one request, as curl sends it."""

import asyncio
import hashlib
import os
import shutil

import pytest
from teleop_runtime.serving import bodies
from teleop_testing.waiting import PATIENCE_S, until

MIB = 1024 * 1024
DATASET = {"robot_id": "robot_A", "dataset": "me/ds", "path": "data/file-000.parquet"}
STORED = "robot_A/me/ds/data/file-000.parquet"
TIMES = {"start_timestamp": "2026-01-05T10:00:00Z", "end_timestamp": "1767607201.5"}

TORN_FORM = b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\nx'


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def video_of(session: object, **changes: str) -> dict[str, str]:
    fields = {"robot_id": "robot_A", "session": str(session), "camera_key": "front", "chunk_index": "0"}
    return {**fields, **TIMES, **changes}


async def upload(http, content: bytes, fields: dict[str, str], *, kind: str = "sync"):
    return await http.post(f"/upload/{kind}", data=fields, files={"file": ("file.bin", content)})


async def nothing_is_left(store_root, database) -> bool:
    return not list((store_root / ".incoming").iterdir()) and not await database.value(
        "SELECT count(*) FROM upload"
    )


async def test_dataset_file(http, database, store_root):
    """New content is 201, the same again 200, other content a new revision; nothing is left over."""
    first, second = os.urandom(3 * MIB + 5), os.urandom(100)
    for content, status in ((first, 201), (first, 200), (second, 201), (first, 201)):
        answer = await upload(http, content, DATASET)
        assert (answer.status_code, answer.json()["sha256"]) == (status, sha256_of(content))
        assert answer.json()["path"] == STORED
        assert (store_root / STORED).read_bytes() == content
    assert await nothing_is_left(store_root, database)


async def test_video(http, session, database, store_root):
    """A chunk is 201 with its number and address, the same again 200, other bytes under its key 409."""
    content = os.urandom(1000)
    answer = await upload(http, content, video_of(session), kind="video")
    number = answer.json()["id"]
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{http.base_url}/videos/{number}")
    again = await upload(http, content, video_of(session, sha256=sha256_of(content)), kind="video")
    assert (again.status_code, again.json()["id"]) == (200, number)
    other = await upload(http, content + b"x", video_of(session), kind="video")
    assert (other.status_code, other.json()["code"]) == (409, "chunk_conflict")
    corrected = {"start_timestamp": "2026-01-05T09:59:59Z", "end_timestamp": "2026-01-05T10:00:07Z"}
    for name, instant in corrected.items():  # nobody is to think that it has been corrected
        moved = await upload(http, content, video_of(session, **{name: instant}), kind="video")
        assert (moved.status_code, moved.json()["code"]) == (409, "chunk_conflict")
        assert (moved.json()["field"], f"DELETE /videos/{number}" in moved.json()["hint"]) == (name, True)
    assert (store_root / f"robot_A/sessions/{session}/front/000000.mp4").read_bytes() == content
    rows = await database.fetch("SELECT start_timestamp::text, end_timestamp::text FROM video_chunk")
    assert [(r["start_timestamp"][:19], r["end_timestamp"][:21]) for r in rows] == [
        ("2026-01-05 10:00:00", "2026-01-05 10:00:01.5")
    ]
    assert await nothing_is_left(store_root, database)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
@pytest.mark.parametrize("file_first", [True, False])
async def test_curl(service, store_root, tmp_path, file_first):
    """curl -F does it, wherever the file stands among the fields."""
    content = os.urandom(5 * MIB)
    (tmp_path / "file").write_bytes(content)
    fields = [argument for name, text in DATASET.items() for argument in ("-F", f"{name}={text}")]
    file = ["-F", f"file=@{tmp_path / 'file'}"]
    command = ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}"]
    command += [*file, *fields] if file_first else [*fields, *file]
    curl = await asyncio.create_subprocess_exec(
        *command, f"http://{service}/upload/sync", stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        assert (await curl.communicate())[0] == b"201"
    assert (store_root / STORED).read_bytes() == content


@pytest.mark.parametrize(
    ("kind", "fields", "status", "field"),
    [
        ("sync", {**DATASET, "path": ""}, 422, "path"),
        ("sync", {**DATASET, "path": "../x.json"}, 422, "path"),
        ("sync", {**DATASET, "path": "x\x1b.json"}, 422, "path"),
        ("sync", {**DATASET, "path": "x\u202e.json"}, 422, "path"),
        ("sync", {**DATASET, "path": "CON.json"}, 422, "path"),
        ("sync", {**DATASET, "path": "e\u0301.json"}, 422, "path"),
        ("sync", {**DATASET, "robot_id": ".hidden"}, 422, "robot_id"),
        ("sync", {**DATASET, "robot_id": "r" * 65}, 422, "robot_id"),
        ("sync", {**DATASET, "speed": "9"}, 422, "speed"),
        ("sync", {**DATASET, "sha256": sha256_of(b"other")}, 460, "sha256"),
        ("video", video_of(1, start_timestamp="2026-01-05T10:00:00"), 422, "start_timestamp"),
        ("video", video_of(1, end_timestamp="1969-12-31T00:00:00Z"), 422, "end_timestamp"),
        ("video", video_of(1, camera_key="a/b"), 422, "camera_key"),
        ("video", video_of("x"), 422, "session"),
        ("video", video_of(10**9), 404, "session"),
    ],
)
async def test_refusals_leave_nothing(http, session, database, store_root, kind, fields, status, field):
    """Each wrong field is named; neither bytes nor rows nor names stay behind."""
    answer = await upload(http, b"content", fields, kind=kind)
    assert (answer.status_code, answer.json().get("field")) == (status, field)
    assert "end_us" not in answer.text, "a field is called as the client calls it"
    assert await nothing_is_left(store_root, database)
    assert not (store_root / "robot_A").exists()


async def test_sql_in_names(http, store_root):
    """What looks like SQL is a name like any other."""
    answer = await upload(http, b"x", {**DATASET, "path": "'; DROP TABLE upload;--.json"})
    assert answer.status_code == 201
    assert (store_root / "robot_A/me/ds/'; DROP TABLE upload;--.json").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=XX", b"", 400),
        ("multipart/form-data; boundary=XX", b"garbage", 400),
        (
            "multipart/form-data; boundary=XX",
            b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\nx',
            400,
        ),
    ],
)
async def test_broken_forms(http, database, store_root, content_type, content, status):
    """What is no whole form is refused, and leaves nothing."""
    answer = await http.post("/upload/sync", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert await nothing_is_left(store_root, database)


async def test_early_refusal(http, service):
    """If the fields come first, a wrong one is refused before the file has come."""
    host, port = service.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    fields = {**DATASET, "path": "x.exe"}
    form = "".join(
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    )
    form += '--XX\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nfirst bytes'
    head = "\r\n".join(
        [
            "POST /upload/sync HTTP/1.1",
            f"Host: {service}",
            "Content-Type: multipart/form-data; boundary=XX",
            "Content-Length: 1000000000",
            "",
            "",
        ]
    )
    writer.write((head + form).encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 422 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize("length", ["-1", "abc", "1, 2"])
async def test_wrong_content_length(service, length):
    """A Content-Length that is no number is refused by the server itself."""
    host, port = service.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /upload/sync HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 400 " in await reader.readline()
    writer.close()


async def test_endless_form(service, session):
    """A form that announces more than any file may have is refused at once, with the limit."""
    host, port = service.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /upload/video HTTP/1.1\r\nHost: {service}\r\nContent-Length: {3 * 1024**3}\r\n"
    writer.write((head + "Content-Type: multipart/form-data; boundary=XX\r\n\r\n").encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_cut_off(service, database, store_root):
    """A form whose connection breaks leaves nothing."""
    host, port = service.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /upload/sync HTTP/1.1\r\nHost: {service}\r\nContent-Length: 99999999\r\n"
    part = '--XX\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    writer.write((head + f"Content-Type: multipart/form-data; boundary=XX\r\n\r\n{part}").encode())
    writer.write(b"x" * 2 * MIB)
    await writer.drain()
    await until(lambda: database.value("SELECT count(*) FROM upload"))
    writer.close()
    await until(lambda: nothing_is_left(store_root, database))


async def test_trickle(service, database, store_root, monkeypatch):
    """A form that hardly comes is ended with 408, and its connection with it, and leaves nothing."""
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    host, port = service.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /upload/sync HTTP/1.1\r\nHost: {service}\r\nContent-Length: 99999\r\n"
    writer.write((head + "Content-Type: multipart/form-data; boundary=XX\r\n\r\n--XX\r\n").encode())
    async with asyncio.timeout(PATIENCE_S):
        told = await reader.read()
    assert b" 408 " in told.partition(b"\r\n")[0]
    writer.close()
    assert await nothing_is_left(store_root, database)
