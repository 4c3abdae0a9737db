"""kill -9 of the service, in the worst moments."""

import io
from pathlib import Path

import httpx
import msgspec
import pytest
from teleop_schema.files import FilePlan, Planned
from teleop_testing.backends.processes import ingest_process
from teleop_testing.datasets.files import dataset_file, encode_video, video_file
from teleop_testing.robots.tus import DATASET
from teleop_testing.waiting import PATIENCE_S
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed
from tusclient.uploader import Uploader

PLANS = "/files/plan"


def plan(process, file) -> Planned:
    answer = httpx.post(
        f"http://{process.address}{PLANS}", content=msgspec.json.encode(FilePlan(file)), timeout=PATIENCE_S
    )
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Planned)


def send(process, upload: str, content: bytes) -> httpx.Response:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    return httpx.patch(
        f"http://{process.address}{upload}", headers=headers, content=content, timeout=PATIENCE_S
    )


def fetch(process, receipt) -> bytes:
    return httpx.get(f"http://{process.address}/videos/{receipt.id}/content", timeout=PATIENCE_S).content


@pytest.mark.parametrize("dies_at", ["object", "name"])
@pytest.mark.parametrize("kind", ["dataset", "video"])
async def test_no_byte_is_sent_twice_after_a_kill(
    database_url, store_root, session, monkeypatch, dies_at, kind, database
):
    """Killed between the object and its row; the robot asks again and has its receipt at once."""
    content = encode_video(10)
    path = "videos/file-000.mp4"
    file = video_file(content, session) if kind == "video" else dataset_file(content, path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("DIES_AT", dies_at)
    dying = ingest_process(database_url, store_root, "dying_service")
    dying.start()
    try:
        planned = plan(dying, file)
        assert planned.missing == ((0, len(content)),)
        with pytest.raises(httpx.TransportError):
            send(dying, planned.upload, content)
    finally:
        dying.kill()
        dying.log.unlink()
    assert await database.value("SELECT count(*) FROM stored_object") == 0
    with ingest_process(database_url, store_root) as process:
        receipt = plan(process, file).receipt
        assert receipt is not None
        assert (store_root / receipt.path).read_bytes() == content
        assert plan(process, file).receipt == receipt
    assert await database.value("SELECT count(*) FROM stored_object") == 1


@pytest.mark.parametrize("dies_at", ["object", "name"])
def test_who_hears_that_all_bytes_are_there_has_its_file_stored(
    database_url, store_root, content, monkeypatch, dies_at
):
    """Killed after the last byte came: a tus client asks for the offset, and is done if it is the length."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("DIES_AT", dies_at)
    dying = ingest_process(database_url, store_root, "dying_service")
    dying.start()
    try:
        uploader = uploading(dying, content, metadata=DATASET)
        with pytest.raises(TusUploadFailed):
            uploader.upload()
    finally:
        dying.kill()
        dying.log.unlink()
    upload = uploader.url.removeprefix(f"http://{dying.address}")
    with ingest_process(database_url, store_root) as process:
        goes_on = uploading(process, content, url=f"http://{process.address}{upload}")
        assert goes_on.offset == len(content)
        goes_on.upload()
        address = f"http://{process.address}/datasets/robot_A/{DATASET['dataset']}/files/{DATASET['path']}"
        assert httpx.get(address, timeout=PATIENCE_S).content == content


def uploading(process, content: bytes, **about) -> Uploader:
    client = TusClient(f"http://{process.address}/files")
    return client.uploader(file_stream=io.BytesIO(content), **about)


async def test_two_replicas_share_one_store(database_url, store_root, session):
    """What one of them has begun, the other one finishes; both know it then."""
    content = encode_video(10)
    file = video_file(content, session)
    with (
        ingest_process(database_url, store_root) as first,
        ingest_process(database_url, store_root) as second,
    ):
        upload = plan(first, file).upload
        assert plan(second, file).upload == upload
        assert send(second, upload, content).status_code == 204
        receipt = plan(first, file).receipt
        assert receipt == plan(second, file).receipt
        for process in (first, second):
            assert fetch(process, receipt) == content
