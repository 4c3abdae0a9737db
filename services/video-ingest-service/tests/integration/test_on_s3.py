"""The service with its files on S3: what the other tests show on a folder holds there."""

import io
import tarfile

import msgspec
import pytest
from teleop_testing.datasets.files import dataset_file, encode_video, manifest_of, sha256_of, video_file
from teleop_video_ingest.adopt import adopt
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.upkeep.sweep import Sweeper
from teleop_video_ingest.uploads.uploads import Uploads

FILES = {"meta/info.json": b"{}", "data/file.parquet": b"PAR1" * 1_000_000}
ADDRESS = "/datasets/robot_A/someone/picking"


@pytest.fixture
def store_root(s3_folder) -> str:
    """In place of a folder."""
    return s3_folder.address


@pytest.fixture
def publish(catalog, keep, http):
    """Stores FILES as a version."""

    async def publish() -> None:
        for path, content in FILES.items():
            await keep(content)
            await catalog.accept(dataset_file(content, path))
        body = msgspec.json.encode(manifest_of(FILES, finalised=True))
        assert (await http.post(f"{ADDRESS}/versions", content=body)).status_code == 201

    return publish


async def test_videos_are_looked_into_and_served(http, catalog, keep, session):
    """Looked into from a copy, served by ranges."""
    content = encode_video(30)
    await keep(content)
    receipt, _ = await catalog.accept(video_file(content, session, indices=range(0, 60, 2)))
    video = (await http.get(f"/videos/{receipt.id}")).json()
    assert (video["codec"], video["frame_count"], video["quarantine"]) == ("h264", 30, None)
    part = await http.get(f"/videos/{receipt.id}/content", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, content[1000:2000])


async def test_datasets_come_back_whole(http, publish):
    """Byte for byte."""
    await publish()
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    with tarfile.open(fileobj=io.BytesIO((await http.get(f"{ADDRESS}/restore")).content)) as archive:
        found = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}
    assert found == {f"someone/picking/{path}": content for path, content in FILES.items()}


async def test_a_new_database_takes_them_over(publish, catalog, keep, session, pool, store, store_root):
    """Versions, files without one, and video are known again, from the notes beside them."""
    await publish()
    await keep(b"{}")
    await catalog.accept(dataset_file(b"{}", "meta/info.json", dataset="me/loose"))
    content = encode_video(5)
    await keep(content)
    await catalog.accept(video_file(content, session, indices=range(5)))
    await pool.execute("TRUNCATE video_chunk, dataset, dataset_version, stored_object CASCADE")
    adopted = await adopt(pool, store, store_root)
    assert (adopted.versions, adopted.files, adopted.chunks.back, adopted.left_out) == (1, 1, 1, 0)
    assert await pool.fetchval("SELECT name FROM dataset ORDER BY id DESC") == "me/loose"
    assert await pool.fetchval("SELECT frame_indices FROM video_chunk") == [0, 1, 2, 3, 4]


async def test_lost_objects_are_noticed_and_heal(http, publish, s3_folder, pool, store, catalog, keep):
    """By the sweep and by verify; when the robot sends them again, all is well."""
    await publish()
    sha256 = sha256_of(FILES["data/file.parquet"])
    (key,) = (key for key in s3_folder.object_keys() if "/objects/" in key and key.endswith(sha256))
    s3_folder.remove(key)
    await Sweeper(pool, store, Uploads(UploadTable(pool), store, catalog)).sweep()
    assert (await http.get(ADDRESS)).json()["status"] == "damaged"
    found = (await http.post(f"{ADDRESS}/verify")).json()["damaged"]
    assert [each["damage"] for each in found] == ["it is missing"]
    file = dataset_file(FILES["data/file.parquet"], "data/file.parquet")
    assert await catalog.find(file) is None
    await keep(FILES["data/file.parquet"])
    await catalog.accept(file)
    assert (await http.post(f"{ADDRESS}/verify")).json()["damaged"] == []
