"""What is refused to tus clients, by name, and what it leaves behind: nothing."""

import base64
import hashlib

import pytest
from teleop_testing.datasets.files import sha256_of
from teleop_testing.robots.tus import (
    BODY,
    DATASET,
    STORED,
    TUS,
    create,
    leftovers,
    metadata_of,
    offset_of,
    patch,
)


async def test_wrong_file(http, content, store_root):
    """A file that is not what its SHA-256 says is refused whole; its upload is gone, and says why."""
    address = await create(http, len(content), sha256=sha256_of(b"other"))
    answer = await patch(http, address, 0, content)
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_mismatch")
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    gone = await patch(http, address, 0, content)
    assert (gone.status_code, gone.json()["code"]) == (410, "upload_gone")
    assert "SHA-256" in gone.json()["detail"]
    assert not (store_root / STORED).exists()
    assert leftovers(store_root) == []


async def test_wrong_chunk(http, content):
    """A PATCH that is not what its checksum says leaves the offset where it was."""
    address = await create(http, len(content))
    wrong = "sha256 " + base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    answer = await patch(http, address, 0, content, **{"Upload-Checksum": wrong})
    assert (answer.status_code, answer.json()["field"]) == (460, "Upload-Checksum")
    assert await offset_of(http, address) == 0
    right = "sha256 " + base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert (await patch(http, address, 0, content, **{"Upload-Checksum": right})).status_code == 204


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({}, 422, "robot_id"),
        ({**DATASET, "robot_id": ""}, 422, "robot_id"),
        ({**DATASET, "robot_id": "../x"}, 422, "robot_id"),
        ({**DATASET, "robot_id": "r\0"}, 422, "robot_id"),
        ({**DATASET, "path": "../../etc/passwd.json"}, 422, "path"),
        ({**DATASET, "path": "/etc/x.json"}, 422, "path"),
        ({**DATASET, "path": "C:\\x.json"}, 422, "path"),
        ({**DATASET, "path": "x.exe"}, 422, "path"),
        ({**DATASET, "dataset": "a/../b"}, 422, "dataset"),
        ({**DATASET, "dataset": "sessions/1"}, 422, "dataset"),
        ({**DATASET, "sha256": "xyz"}, 422, "sha256"),
        ({**DATASET, "kind": "zip"}, 422, "kind"),
    ],
)
async def test_refused_before_any_byte(http, database, store_root, fields, status, field):
    """What can't be stored is refused at its creation, by name, and leaves nothing."""
    answer = await http.post("/files", headers={**TUS, "Upload-Length": "5", **metadata_of(fields)})
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert await database.value("SELECT count(*) FROM upload") == 0
    assert leftovers(store_root) == []


async def test_unknown_session(http):
    """Video of a session that nobody knows is refused before it is sent, but may be tried later."""
    fields = {
        "robot_id": "robot_A",
        "session": "999",
        "camera_key": "front",
        "chunk_index": "0",
        "start_timestamp": "1",
        "end_timestamp": "2",
    }
    answer = await http.post("/files", headers={**TUS, "Upload-Length": "5", **metadata_of(fields)})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "Tus-Resumable"),
        ({"Upload-Offset": "-1"}, 400, "Upload-Offset"),
        ({"Upload-Offset": "abc"}, 400, "Upload-Offset"),
        ({"Upload-Offset": "3"}, 409, "Upload-Offset"),
        ({"Upload-Offset": "10"}, 409, "Upload-Offset"),
        ({"Upload-Offset": "11"}, 413, None),
        ({"Content-Type": "text/plain"}, 415, "Content-Type"),
        ({"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
        ({"Upload-Checksum": "crc32 AAAA"}, 400, "Upload-Checksum"),
        ({"Upload-Checksum": "sha1 ***"}, 400, "Upload-Checksum"),
        ({"Upload-Length": "1"}, 400, "Upload-Length"),
    ],
)
async def test_bad_patches(http, headers, status, field):
    """Each mistake in a PATCH gets its own error, and changes nothing."""
    address = await create(http, 10)
    await patch(http, address, 0, b"four")
    answer = await http.patch(address, content=b"", headers={**BODY, "Upload-Offset": "4", **headers})
    assert (answer.status_code, answer.json().get("field")) == (status, field)
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert await offset_of(http, address) == 4


async def test_absent_offset(http):
    """A PATCH must tell where its bytes belong."""
    address = await create(http, 10)
    answer = await http.patch(address, content=b"four", headers=BODY)
    assert (answer.status_code, answer.json()["field"]) == (400, "Upload-Offset")


@pytest.mark.parametrize("address", ["/files/0", "/files/6f9c6a4e-0d4c-4b4a-9d4e-3a1b1c1d1e1f", "/files/%00"])
async def test_foreign_uploads(http, address):
    """Uploads that nobody began are unknown, whatever is asked of them."""
    for answer in (
        await http.head(address, headers=TUS),
        await http.delete(address, headers=TUS),
        await patch(http, address, 0, b"x"),
    ):
        assert answer.status_code == 404


async def test_too_many_bytes(http, store_root):
    """More bytes than announced are refused, before they come if their number is told."""
    address = await create(http, 10)
    answer = await patch(http, address, 0, b"x" * 11)
    assert (answer.status_code, answer.json()["limit"]) == (413, 10)
    assert await offset_of(http, address) == 0

    async def unannounced():
        yield b"x" * 6
        yield b"x" * 6

    answer = await http.patch(address, content=unannounced(), headers={**BODY, "Upload-Offset": "0"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert not (store_root / STORED).exists()


async def test_no_room(http, store_root, monkeypatch):
    """What does not fit the disk is refused before it is sent."""
    monkeypatch.setattr("teleop_runtime.store.local.KEPT_FREE", 1.0)
    headers = {**TUS, "Upload-Length": "5000", **metadata_of(DATASET)}
    answer = await http.post("/files", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
    assert answer.json()["hint"]
    assert leftovers(store_root) == []
