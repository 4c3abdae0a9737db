"""A database that is lost, or older than its store: what the store tells of is known again."""

import shutil

import msgspec
import pytest
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.store import open_store
from teleop_schema.files import DatasetVersion, DroppedFrames, digest_of
from teleop_testing.datasets.files import dataset_file, encode_video, manifest_of, sha256_of, video_file
from teleop_testing.datasets.recorded import record_session
from teleop_video_ingest.adopt import adopt
from teleop_video_ingest.datasets.version_notes import note_all_versions
from teleop_video_ingest.datasets.versions import commit_repair, commit_version
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.files.chunk_notes import note_all_chunks
from teleop_video_ingest.files.dataset_notes import note_all_datasets, note_dataset
from teleop_video_ingest.tables import sweep_table
from teleop_video_ingest.tables.version_table import best_version, newest_of_robot
from teleop_video_ingest.upkeep.ownership import claim

FORGET = """
TRUNCATE video_chunk, upload, dataset, dataset_file, dataset_version, dataset_version_file, dataset_import,
         import_video, stored_object
"""
ANOTHER = "UPDATE installation SET id = gen_random_uuid()"
ROW = "SELECT to_jsonb(c) - 'id' - 'noted_at' FROM video_chunk c ORDER BY session_id, camera_key, chunk_index"
TOLD = {"dropped": (DroppedFrames(5, 9, "the encoder was busy"),), "depth_unit": "mm", "fps": 29.97}
VERSIONS = "SELECT version, finalised, manifest_sha256, created_at FROM dataset_version ORDER BY version"


@pytest.fixture
def record(pool, catalog, keep, store):
    """Stores a state of a dataset, one file of which has `content`, as a version."""

    async def record(content: bytes, *, finalised: bool = True) -> None:
        files = {"meta/info.json": b"{}", "data/file.parquet": content}
        for path, each in files.items():
            await keep(each)
            await catalog.accept(dataset_file(each, path, dataset="me/ds"))
        await commit_version(pool, store, "robot_A", "me/ds", manifest_of(files, finalised=finalised))

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


async def test_a_lost_store(pool, store, store_root, record, database):
    """The database goes on with an empty one: its files are wanted again, its versions noted again."""
    await claim(pool, store, str(store_root))
    await record(b"first")
    shutil.rmtree(store_root)
    store = open_store(str(store_root))
    with pytest.raises(CannotStart, match="is empty, but this database has files there"):
        await claim(pool, store, str(store_root))
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.objects, adopted.versions, adopted.missing) == (0, 0, 2)
    assert "missing in the store: 2 files: agents send again what they still have" in str(adopted)
    await claim(pool, store, str(store_root))
    assert await database.value("SELECT count(*) FROM stored_object WHERE damage = 'it is missing'") == 2
    await note_all_versions(pool, store)
    assert [name async for name in store.list_notes("versions")]


FILES = """
SELECT robot_id, name, path, sha256 FROM dataset_file f JOIN dataset d ON d.id = dataset_id
 WHERE revision = (SELECT max(revision) FROM dataset_file g WHERE (g.dataset_id, g.path) = (d.id, f.path))
 ORDER BY 1, 2, 3
"""


@pytest.mark.parametrize("older", [False, True], ids=["noted", "of an older release"])
async def test_files_without_a_version_come_back(
    pool, store, store_root, record, database, catalog, keep, older
):
    """What was sent file by file is what it was: the datasets, their paths, the newest content of each."""
    await record(b"of a version")
    sent = [
        ("picks", "meta/info.json", b"old"),
        ("picks", "meta/info.json", b"new"),
        ("me/ds", "data/file.parquet", b"later than its version"),
        ("a/b/c", "notes/meta.json", b"{}"),
    ]
    for dataset, path, content in sent:
        await keep(content)
        await catalog.accept(dataset_file(content, path, dataset=dataset))
    before = await database.fetch(FILES)
    if older:
        # As it left them: without notes, which the service writes.
        for name in [name async for name in store.list_notes("datasets")]:
            await store.remove_note(name)
        await note_all_datasets(pool, store)
    await pool.execute(FORGET)
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.versions, adopted.files) == (1, 3)
    assert "back without a version: 3 dataset files" in str(adopted)
    assert await database.fetch(FILES) == before
    assert (await adopt(pool, store, str(store_root))).files == 0
    # All that is left is what a path held before.
    assert [each for each, _ in await unclaimed(pool)] == [sha256_of(b"old")]


async def unclaimed(pool):
    async with pool.acquire() as connection:
        return await sweep_table.unclaimed(connection)


async def test_a_dataset_whose_only_file_was_refused_is_not_made(pool, store, store_root, database):
    """Its note was written before."""
    await note_dataset(store, "robot_A", "never")
    assert (await adopt(pool, store, str(store_root))).files == 0
    assert await database.value("SELECT count(*) FROM dataset") == 0


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
    await commit_version(pool, store, "robot_A", "me/ds", manifest_of(content))
    assert (await adopt(pool, store, str(store_root))).versions == 1
    rows = await database.fetch("SELECT version, files FROM dataset_version ORDER BY version")
    assert [(row["version"], row["files"]) for row in rows] == [(1, 1), (2, 2)]


async def test_what_was_forgotten_is_not_the_newest(pool, store, store_root, record, database):
    """The robot has gone on since, under numbers that had been given before: what it has now is what one
    gets, and what lies in the dataset."""
    await claim(pool, store, str(store_root))
    await record(b"known")
    await record(b"forgotten")
    await record(b"forgotten, too")
    await pool.execute("DELETE FROM dataset_version WHERE version > 1")
    await pool.execute("DELETE FROM dataset_file WHERE revision > 1")
    await record(b"what the robot has now")
    assert (await adopt(pool, store, str(store_root))).versions == 2
    rows = await database.fetch(VERSIONS)
    assert [row["version"] for row in rows] == [1, 2, 3, 4]
    async with pool.acquire() as connection:
        dataset_id = await connection.fetchval("SELECT id FROM dataset")
        best = await best_version(connection, dataset_id)
        newest = await newest_of_robot(connection, dataset_id)
    assert best["version"] == newest["version"] == 2
    lies = "SELECT sha256 FROM dataset_file WHERE path LIKE 'data/%' ORDER BY revision DESC LIMIT 1"
    assert await database.value(lies) == sha256_of(b"what the robot has now")
    await record(b"what it has next")
    async with pool.acquire() as connection:
        assert (await best_version(connection, dataset_id))["version"] == 5


@pytest.fixture
def repair(pool, catalog, keep, store):
    """Stores what a repair has made of a version; gives it."""

    async def repair(content: bytes, *, repaired_from: int) -> DatasetVersion:
        await keep(content)
        await catalog.accept(dataset_file(content, "data/file.parquet", dataset="me/ds"))
        manifest = manifest_of({"data/file.parquet": content}, finalised=True)
        return await commit_repair(pool, store, "robot_A", "me/ds", manifest, repaired_from=repaired_from)

    return repair


# Each repair by its content, and the version that it says it was made of, likewise.
ORIGINS = """
SELECT repaired.sha256 AS repaired, torn.sha256 AS torn
  FROM dataset_version v
  JOIN dataset_version_file repaired ON repaired.version_id = v.id AND repaired.path LIKE 'data/%'
  LEFT JOIN dataset_version o ON o.dataset_id = v.dataset_id AND o.version = v.repaired_from
  LEFT JOIN dataset_version_file torn ON torn.version_id = o.id AND torn.path LIKE 'data/%'
 WHERE v.source = 'repair' ORDER BY v.created_at
"""


@pytest.mark.parametrize("earlier_release", [False, True])
async def test_a_repair_is_of_the_version_that_it_was_made_of(
    pool, store, store_root, record, repair, database, earlier_release
):
    """Whatever numbers both get, in whichever database: what it was made of stays, and is told truly."""
    await claim(pool, store, str(store_root))
    await record(b"known")
    await record(b"torn", finalised=False)
    await repair(b"repaired", repaired_from=2)
    if earlier_release:
        [name] = [name async for name in store.list_notes("versions") if "/3-" in name]
        note = msgspec.json.decode(await store.note(name))
        del note["repaired_from_sha256"]
        await store.set_note(name, msgspec.json.encode(note))
    await pool.execute("DELETE FROM dataset_version WHERE version > 1")
    await record(b"torn, too", finalised=False)
    await repair(b"repaired, too", repaired_from=2)
    told = [
        {"repaired": sha256_of(b"repaired"), "torn": sha256_of(b"torn")},
        {"repaired": sha256_of(b"repaired, too"), "torn": sha256_of(b"torn, too")},
    ]
    assert (await adopt(pool, store, str(store_root))).versions == 2
    assert await database.fetch(ORIGINS) == told
    before = await database.fetch(VERSIONS)
    assert [row["version"] for row in before] == [1, 2, 3, 4, 5]
    # A repair of a version that got another number, and a database that is made anew.
    [torn] = await database.fetch(
        "SELECT version FROM dataset_version WHERE NOT finalised ORDER BY created_at LIMIT 1"
    )
    await repair(b"repaired better", repaired_from=torn["version"])
    told.append({"repaired": sha256_of(b"repaired better"), "torn": sha256_of(b"torn")})
    before = await database.fetch(VERSIONS)
    await pool.execute(FORGET)
    assert (await adopt(pool, store, str(store_root))).left_out == 0
    assert await database.fetch(VERSIONS) == before
    assert await database.fetch(ORIGINS) == told


async def test_a_repair_whose_origin_is_gone_is_of_none(pool, store, store_root, record, repair, database):
    """Rather than of another version that has its number."""
    await record(b"torn", finalised=False)
    await repair(b"repaired", repaired_from=1)
    await store.remove(sha256_of(b"torn"))
    await pool.execute(FORGET)
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.versions, adopted.left_out) == (1, 1)
    assert await database.fetch(ORIGINS) == [{"repaired": sha256_of(b"repaired"), "torn": None}]


async def test_a_dataset_that_went_back_is_as_it_was_last(pool, store, store_root, record, database):
    """Its newest version has the content of an earlier one: both come back."""
    for content in (b"first", b"second", b"first"):
        await record(content)
    before = await database.fetch(VERSIONS)
    await pool.execute(FORGET)
    for new in (3, 0):
        assert (await adopt(pool, store, str(store_root))).versions == new
        assert await database.fetch(VERSIONS) == before


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
    with pytest.raises(CannotStart, match="already has files of its own"):
        await adopt(pool, store, str(store_root))
    assert await store.owner() == "another"


@pytest.fixture
def film(catalog, keep, session, database):
    """Stores a chunk of video of the session's camera; gives its hash."""

    async def film(chunk: int) -> str:
        content = encode_video(12 + chunk)
        indices = range(chunk * 30, chunk * 30 + 2 * (12 + chunk), 2)
        sha256 = await keep(content)
        await catalog.accept(video_file(content, session, chunk_index=chunk, indices=indices, **TOLD))
        return sha256

    return film


async def test_video_comes_back(pool, store, store_root, film, database):
    """Every row is what it was: which frame saw each picture, when, what was dropped, what a look found."""
    for chunk in range(3):
        await film(chunk)
    before = await database.fetch(ROW)
    assert before
    await pool.execute(FORGET)
    for back in (3, 0):
        adopted = await adopt(pool, store, str(store_root))
        assert (adopted.chunks.back, adopted.chunks.sessionless, adopted.chunks.lost) == (back, 0, 0)
    assert await database.fetch(ROW) == before
    assert await database.value("SELECT count(*) FROM stored_object WHERE found_at IS NOT NULL") == 0
    assert "3 video chunks" not in str(adopted)


async def test_video_whose_session_or_file_is_not_there(
    pool, store, store_root, film, database, database_url
):
    """It is told of; once the session is known, under whatever number, doing it again brings it back."""
    gone = await film(0)
    kept = await film(1)
    stream = await database.value("SELECT stream_id FROM teleop_session")
    await pool.execute(FORGET)
    await store.remove(gone)
    await pool.execute("UPDATE teleop_session SET stream_id = gen_random_uuid()")
    told = str(await adopt(pool, store, str(store_root)))
    assert "left as plain files because their sessions are unknown here: 2 video chunks" in told
    again = record_session(database_url, 120)
    await pool.execute("UPDATE teleop_session SET stream_id = $1 WHERE id = $2", stream, again)
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.chunks.back, adopted.chunks.lost) == (1, 1)
    assert "left out because its file is missing: 1 video chunk" in str(adopted)
    [row] = await database.fetch("SELECT session_id, file_path, sha256 FROM video_chunk")
    assert (row["session_id"], row["sha256"]) == (again, kept)
    assert {path async for path, sha in store.list_names() if sha == kept} >= {row["file_path"]}


async def test_it_is_noted_before_it_is_acknowledged(pool, store, keep, session, prober, monkeypatch):
    """While the store can't take the note there is no receipt: of a chunk, a version, a new dataset."""
    refused = OSError("no room for it")

    async def refuse(name: str, content: bytes) -> None:
        raise refused

    catalog = Catalog(pool, store, prober)
    await keep(b"{}")
    await catalog.accept(dataset_file(b"{}", "meta/info.json", dataset="me/ds"))
    monkeypatch.setattr(store, "set_note", refuse)
    content = encode_video(5)
    await keep(content)
    chunk = video_file(content, session, indices=range(5))
    manifest = manifest_of({"meta/info.json": b"{}"}, finalised=True)
    for act in (
        lambda: catalog.accept(chunk),
        lambda: commit_version(pool, store, "robot_A", "me/ds", manifest),
        lambda: catalog.accept(dataset_file(b"{}", "meta/info.json", dataset="new")),
    ):
        with pytest.raises(OSError, match="no room for it"):
            await act()
    assert await pool.fetchval("SELECT count(*) FROM video_chunk") == 0
    assert await pool.fetchval("SELECT count(*) FROM dataset_version") == 0
    assert await pool.fetchval("SELECT count(*) FROM dataset") == 1
    monkeypatch.undo()
    await catalog.accept(chunk)
    await commit_version(pool, store, "robot_A", "me/ds", manifest)
    assert len([name async for name in store.list_notes("videos")]) == 1
    noted = [f"versions/robot_A/me/ds/1-{digest_of(manifest)[:12]}"]
    assert [name async for name in store.list_notes("versions")] == noted


async def test_what_an_older_release_stored_is_noted(pool, store, store_root, film, record, database):
    """Its rows were made without a note; the service that runs now makes up for it."""
    await film(0)
    await record(b"first")
    for name in ("videos", "versions"):
        shutil.rmtree(store_root / ".notes" / name)
    await pool.execute("UPDATE video_chunk SET noted_at = NULL")
    await pool.execute("UPDATE dataset_version SET noted_at = NULL")
    await note_all_chunks(pool, store)
    await note_all_versions(pool, store)
    await pool.execute(FORGET)
    adopted = await adopt(pool, store, str(store_root))
    assert (adopted.chunks.back, adopted.versions) == (1, 1)
