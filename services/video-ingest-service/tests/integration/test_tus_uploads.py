"""Resumable uploads as tus clients do them."""

import asyncio
import fcntl
import hashlib
import io
from pathlib import Path

import pytest
from teleop_runtime.serving import bodies
from teleop_testing.datasets.files import sha256_of
from teleop_testing.robots.tus import (
    BODY,
    DATASET,
    STORED,
    TUS,
    arrived_bytes,
    create,
    leftovers,
    metadata_of,
    offset_of,
    patch,
)
from teleop_testing.waiting import until
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.uploads.uploads import Uploads
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed

MIB = 1024 * 1024


async def test_tuspy(service, http, content, store_root):
    """tuspy's upload, in checked chunks, ends as a file in the tree; its address tells so for a while."""
    client = TusClient(f"http://{service}/files")
    uploader = client.uploader(
        file_stream=io.BytesIO(content), chunk_size=MIB, metadata=DATASET, upload_checksum=True
    )
    await asyncio.to_thread(uploader.upload)
    assert (store_root / STORED).read_bytes() == content
    answer = await http.head(uploader.url, headers=TUS)
    assert answer.headers["Upload-Offset"] == answer.headers["Upload-Length"] == str(len(content))
    assert answer.headers["Upload-Metadata"] == metadata_of(DATASET)["Upload-Metadata"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Upload-Expires" in answer.headers
    assert leftovers(store_root) == []


async def test_tuspy_resumes_after_a_cut(service, http, content, store_root):
    """After a connection broke in the middle of a chunk, tuspy goes on from what had arrived."""
    address = await create(http, len(content))
    await cut_off(service, address, content, 2 * MIB, store_root)
    kept = await offset_of(http, address)
    assert 0 < kept <= 2 * MIB
    # It asks for the offset as it is made.
    uploader = await asyncio.to_thread(
        TusClient(f"http://{service}/files").uploader,
        file_stream=io.BytesIO(content),
        url=address,
    )
    assert uploader.offset == kept
    await asyncio.to_thread(uploader.upload)
    assert (store_root / STORED).read_bytes() == content


async def cut_off(service: str, address: str, content: bytes, sent: int, store_root: Path) -> None:
    """A PATCH of all of `content` that breaks off after `sent` bytes; returns once the service is through."""
    writer = await half_open(service, address, len(content))
    writer.write(content[:sent])
    await writer.drain()
    await until(lambda: arrived_bytes(store_root))
    writer.close()
    await until(lambda: is_at_rest(store_root / ".incoming" / address.rpartition("/")[2]))


def is_at_rest(upload: Path) -> bool:
    """Whether no service writes to an upload's file."""
    with upload.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


async def half_open(service: str, address: str, length: int) -> asyncio.StreamWriter:
    """A PATCH that has sent its headers only."""
    host, port = service.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    headers = {"Host": service, "Content-Length": str(length), "Upload-Offset": "0", **BODY}
    lines = [f"PATCH {address} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join((*lines, "", "")).encode())
    await writer.drain()
    return writer


async def test_tuspy_hears_of_wrong_checksums(service, http, content, monkeypatch):
    """A chunk that is damaged on its way is refused with 460, and does not count."""
    uploader = TusClient(f"http://{service}/files").uploader(
        file_stream=io.BytesIO(content), chunk_size=MIB, metadata=DATASET, upload_checksum=True
    )
    await asyncio.to_thread(uploader.upload_chunk)
    other = lambda: hashlib.sha1(b"other")  # noqa: E731
    monkeypatch.setattr(type(uploader), "checksum_algorithm", property(lambda _: lambda _content: other()))
    with pytest.raises(TusUploadFailed) as refused:
        await asyncio.to_thread(uploader.upload_chunk)
    assert refused.value.status_code == 460
    assert await offset_of(http, uploader.url) == MIB


async def test_capabilities(http):
    """OPTIONS tells what is supported, to clients of any version."""
    for address in ("/files", "/files/whatever"):
        answer = await http.options(address)
        assert answer.status_code == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "checksum",
            "expiration",
            "termination",
        }
        assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
        assert int(answer.headers["Tus-Max-Size"]) == 50 * 1024**3


async def test_creation_with_upload(http, content, store_root):
    """The first bytes, or all of them, may come with the creation."""
    for sent in (MIB, len(content)):
        headers = {**BODY, "Upload-Length": str(len(content)), **metadata_of(DATASET)}
        answer = await http.post("/files", content=content[:sent], headers=headers)
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, str(sent))
        assert await offset_of(http, answer.headers["Location"]) == sent
    assert (store_root / STORED).read_bytes() == content


async def test_deferred_length(http, content, store_root):
    """A length that is told later ends the upload when it is reached; it can't be told twice."""
    headers = {**TUS, "Upload-Defer-Length": "1", **metadata_of(DATASET)}
    address = (await http.post("/files", headers=headers)).headers["Location"]
    assert (await http.head(address, headers=TUS)).headers["Upload-Defer-Length"] == "1"
    assert (await patch(http, address, 0, content[:MIB])).status_code == 204
    wrong = await patch(http, address, MIB, b"", **{"Upload-Length": str(MIB - 1)})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "Upload-Length")
    length = {"Upload-Length": str(len(content))}
    assert (await patch(http, address, MIB, content[MIB : 2 * MIB], **length)).status_code == 204
    again = await patch(http, address, 2 * MIB, b"", **{"Upload-Length": "7777777"})
    assert (again.status_code, again.json()["field"]) == (400, "Upload-Length")
    assert (await patch(http, address, 2 * MIB, content[2 * MIB :])).status_code == 204
    assert (store_root / STORED).read_bytes() == content


async def test_deferred_length_told_last(http, content, store_root):
    """An empty PATCH that tells the length of what is there ends the upload."""
    headers = {**TUS, "Upload-Defer-Length": "1", **metadata_of(DATASET)}
    address = (await http.post("/files", headers=headers)).headers["Location"]
    await patch(http, address, 0, content)
    assert not (store_root / STORED).exists()
    length = {"Upload-Length": str(len(content))}
    assert (await patch(http, address, len(content), b"", **length)).status_code == 204
    assert (store_root / STORED).read_bytes() == content


async def test_empty_file(http, store_root):
    """A file without bytes is stored by its creation alone."""
    await create(http, 0)
    assert (store_root / STORED).read_bytes() == b""


async def test_termination(http, content, store_root):
    """A deleted upload is unknown, and its bytes are gone."""
    address = await create(http, len(content))
    await patch(http, address, 0, content[:MIB])
    assert (await http.delete(address, headers=TUS)).status_code == 204
    for answer in (
        await http.head(address, headers=TUS),
        await http.delete(address, headers=TUS),
        await patch(http, address, 0, b"x"),
    ):
        assert answer.status_code == 404
    assert leftovers(store_root) == []


async def test_method_override(http, content, store_root):
    """Clients that can only POST name the method in a header."""
    address = await create(http, len(content))
    headers = {**BODY, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert (await http.post(address, content=content[:MIB], headers=headers)).status_code == 204
    answer = await http.post(address, headers={**TUS, "X-HTTP-Method-Override": "HEAD"})
    assert answer.headers["Upload-Offset"] == str(MIB)
    assert (await http.post(address, headers=TUS)).status_code == 405
    answer = await http.post(address, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert answer.status_code == 204
    assert leftovers(store_root) == []


async def test_video(http, session, store_root, content):
    """A chunk of a session's video comes over tus, too; other bytes under its key are a conflict."""
    fields = {
        "kind": "video",
        "robot_id": "robot_A",
        "session": str(session),
        "camera_key": "front",
        "chunk_index": "0",
        "start_timestamp": "1767607200",
        "end_timestamp": "1767607201.5",
    }
    for sent, status in ((content, 204), (content, 204), (content[1:], 409)):
        headers = {**TUS, "Upload-Length": str(len(sent)), **metadata_of(fields)}
        address = (await http.post("/files", headers=headers)).headers["Location"]
        assert (await patch(http, address, 0, sent)).status_code == status
    told = {**metadata_of({**fields, "sha256": sha256_of(content[1:])}), "Upload-Length": "5"}
    refused = await http.post("/files", headers={**TUS, **told})
    assert (refused.status_code, refused.json()["code"]) == (409, "chunk_conflict")
    assert (store_root / f"robot_A/sessions/{session}/front/000000.mp4").read_bytes() == content
    assert leftovers(store_root) == []


async def test_after_completion(http, content):
    """A finished upload takes nothing more; asking for nothing more is fine."""
    address = await create(http, len(content))
    await patch(http, address, 0, content)
    assert (await patch(http, address, 0, content)).status_code == 409
    assert (await patch(http, address, len(content), b"more")).status_code == 413
    assert (await patch(http, address, len(content), b"")).status_code == 204


async def test_later_patch_takes_over(service, http, content, store_root):
    """A client that comes back over a new connection is not held up by its old, half-open one."""
    address = await create(http, len(content))
    writer = await half_open(service, address, len(content))
    writer.write(content[:MIB])
    await writer.drain()
    answer = await until(lambda: taken_over(http, address, content))
    assert answer.status_code == 204
    assert (store_root / STORED).read_bytes() == content
    writer.close()


async def taken_over(http, address: str, content: bytes):
    offset = await offset_of(http, address)
    answer = await patch(http, address, offset, content[offset:])
    return answer if answer.status_code == 204 else None


async def test_trickle(service, http, content, monkeypatch):
    """A body that hardly comes is ended; what came of it is kept."""
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    address = await create(http, len(content))
    writer = await half_open(service, address, len(content))
    for _ in range(60):
        writer.write(b"x")
        await asyncio.sleep(0.01)
    assert await until(lambda: offset_of(http, address)) > 0
    assert await offset_of(http, address) < 60
    writer.close()


async def test_expired_uploads_go(pool, store, catalog, http, database, content, store_root):
    """Uploads whose time is over are swept away, with their bytes; others stay."""
    old, new = await create(http, len(content)), await create(http, len(content))
    for address in (old, new):
        await patch(http, address, 0, content[:MIB])
    await database.connection.execute(
        "UPDATE upload SET expires_at = now() - interval '1 s' WHERE id = $1", old.rpartition("/")[2]
    )
    assert await Uploads(UploadTable(pool), store, catalog).sweep() == 1
    assert (await http.head(old, headers=TUS)).status_code == 404
    assert await offset_of(http, new) == MIB
    assert leftovers(store_root) == [new.rpartition("/")[2]]
