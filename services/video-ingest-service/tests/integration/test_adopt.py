"""A database that is lost, or older than its store: what the store tells of is known again."""

import pytest
from teleop_runtime.app import CannotStart
from teleop_testing.files import dataset_file, manifest_of, sha256_of
from video_ingest_service.adopt import adopt
from video_ingest_service.ownership import claim
from video_ingest_service.version_notes import note_versions
from video_ingest_service.versions import commit_version

FORGET = """
TRUNCATE video_chunk, upload, dataset, dataset_file, dataset_version, dataset_version_file, stored_object
"""
ANOTHER = "UPDATE installation SET id = gen_random_uuid()"
VERSIONS = "SELECT version, finalised, manifest_sha256, created_at FROM dataset_version ORDER BY version"


@pytest.fixture
def record(pool, catalog, keep, store):
    """Stores a state of a dataset, one file of which has `content`, as a version that the store knows of."""

    async def record(content: bytes, *, finalised: bool = True) -> None:
        files = {"meta/info.json": b"{}", "data/file.parquet": content}
        for path, each in files.items():
            await keep(each)
            await catalog.accept(dataset_file(each, path, dataset="me/ds"))
        await commit_version(pool, "robot_A", "me/ds", manifest_of(files, finalised=finalised))
        await note_versions(pool, store)

    return record


async def test_a_lost_database(pool, store, store_root, record, database, keep):
    """Datasets, versions with their numbers, files: all are back. What else lay there is kept."""
    await claim(pool, store, str(store_root))
    await record(b"first")
    await record(b"being recorded", finalised=False)
    await record(b"second")
    stranger = await keep(b"a video")
    before = await database.fetch(VERSIONS)
    await pool.execute(FORGET)
    await pool.execute(ANOTHER)
    with pytest.raises(CannotStart, match="lerobot-backend adopt"):
        await claim(pool, store, str(store_root))
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.objects, adopted.versions, adopted.left_out) == (5, 3, 0)
    await claim(pool, store, str(store_root))
    assert await database.fetch(VERSIONS) == before
    newest = "SELECT sha256 FROM dataset_file WHERE path LIKE 'data/%' ORDER BY revision DESC LIMIT 1"
    assert await database.value(newest) == sha256_of(b"second")
    unknown = await database.fetch("SELECT sha256 FROM stored_object WHERE found_at IS NOT NULL")
    assert [row["sha256"] for row in unknown] == [stranger]


async def test_it_may_be_killed_and_done_again(pool, store, store_root, record, database):
    """Nothing is there twice."""
    await record(b"first")
    await pool.execute(FORGET)
    for _ in range(2):
        await adopt(pool, store, str(store_root))
    assert await database.value("SELECT count(*) FROM dataset_version") == 1
    assert await database.value("SELECT count(*) FROM dataset_file") == 2


async def test_an_older_database_learns_what_it_forgot(pool, store, store_root, record, database):
    """The number that it has given to another version meanwhile stays with that one."""
    await claim(pool, store, str(store_root))
    await record(b"forgotten")
    await pool.execute("DELETE FROM dataset_version")
    await pool.execute("UPDATE dataset_version SET noted_at = now()")
    await pool.execute("DELETE FROM dataset_file")
    content = {"meta/info.json": b"{}"}
    await pool.execute(
        """INSERT INTO dataset_file (dataset_id, path, revision, sha256, size_bytes)
           SELECT id, 'meta/info.json', 1, $1, 2 FROM dataset""",
        sha256_of(b"{}"),
    )
    await commit_version(pool, "robot_A", "me/ds", manifest_of(content))
    assert (await adopt(pool, store, str(store_root))).versions == 1
    rows = await database.fetch("SELECT version, files FROM dataset_version ORDER BY version")
    assert [(row["version"], row["files"]) for row in rows] == [(1, 1), (2, 2)]


async def test_a_version_whose_bytes_are_gone_is_left_out(pool, store, store_root, record):
    """It is told of; all others come back."""
    await record(b"first")
    await record(b"second")
    await store.remove(sha256_of(b"first"))
    await pool.execute(FORGET)
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.versions, adopted.left_out) == (1, 1)


async def test_a_database_with_files_of_its_own_takes_over_no_others(pool, store, store_root, record):
    """Two installations that were mixed up stay apart."""
    await record(b"mine")
    await store.own("another")
    with pytest.raises(CannotStart, match="knows files of another store"):
        await adopt(pool, store, str(store_root))
    assert await store.owner() == "another"
