"""Files of erased sessions and datasets: everything goes, what others need stays, and nothing comes back."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from teleop_runtime.postgres.erasing import Erasing
from teleop_schema.errors import DatasetErased, SessionErased
from teleop_schema.files import FilePlan
from teleop_testing.datasets.dying_store import Died, DyingStore
from teleop_testing.datasets.erased import ask_dataset, ask_session, share_of
from teleop_testing.datasets.files import dataset_file, encode_video, manifest_of, sha256_of, video_file
from teleop_testing.datasets.recorded import record_session
from teleop_testing.datasets.storing import begun
from teleop_video_ingest.datasets.versions import commit_version
from teleop_video_ingest.files.dataset_notes import note_all_datasets
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.upkeep.erasing import FileEraser
from teleop_video_ingest.uploads.uploads import Uploads

SERVICE = "video-ingest-service"
NAME = "someone/picking"
FILES = {"meta/info.json": b"{}", "data/file.parquet": b"rows", "videos/a.mp4": b"pictures"}


@pytest.fixture
def uploads(pool, store, catalog) -> Uploads:
    return Uploads(UploadTable(pool), store, catalog)


@pytest.fixture
def erasing(pool, store, uploads) -> Erasing:
    """The service's share, done whenever it is called."""
    return Erasing(pool, SERVICE, FileEraser(pool, store, uploads).erase)


@pytest.fixture
def film(catalog, keep):
    """Stores a chunk of a session's video."""

    async def film(session: int, content: bytes, **about) -> None:
        await keep(content)
        await catalog.accept(video_file(content, session, **about))

    return film


@pytest.fixture
def back_up(pool, store, catalog, keep):
    """Stores a version of a dataset."""

    async def back_up(files: dict[str, bytes], name: str = NAME) -> None:
        for path, content in files.items():
            await keep(content)
            await catalog.accept(dataset_file(content, path, dataset=name))
        await commit_version(pool, store, "robot_A", name, manifest_of(files, finalised=True))

    return back_up


def traces(root: Path, *words: str) -> list[str]:
    """Files of the store whose name or content has one of the words."""
    found = []
    for path in root.rglob("*"):
        if path.is_file():
            told = f"{path}\n".encode() + path.read_bytes()
            found += [str(path) for word in words if word.encode() in told]
    return found


async def test_video_of_an_erased_session_is_gone(session, film, store_root, database, erasing):
    """Rows, notes, names and bytes; a chunk of the same bytes of another session stays, with its bytes."""
    own, shared = encode_video(10), encode_video(11)
    other = record_session(database.url, 120)
    await film(session, own)
    await film(session, shared, chunk_index=1)
    await film(other, shared)
    erasure = await ask_session(database, session)
    await erasing.once()
    assert traces(store_root, sha256_of(own), f"/sessions/{session}/") == []
    share = await share_of(database, erasure, SERVICE)
    assert share["done_at"] is not None
    assert msgspec.json.decode(share["removed"]) == {
        "video_chunks": 2,
        "objects": 1,
        "objects_kept_for_others": 1,
    }
    assert await database.value("SELECT count(*) FROM stored_object") == 1
    assert (store_root / f"robot_A/sessions/{other}/front/000000.mp4").read_bytes() == shared


async def test_an_erased_dataset_is_gone(back_up, store, store_root, database, erasing):
    """With all versions; what another dataset needs stays, and the next look at notes brings nothing back."""
    await back_up(FILES)
    await back_up({**FILES, "data/file.parquet": b"more rows"})
    await back_up({"meta/info.json": b"{}"}, name="someone/other")
    erasure = await ask_dataset(database, "robot_A", NAME)
    await erasing.once()
    await note_all_datasets(erasing._pool, store)
    hashes = [sha256_of(each) for each in (b"rows", b"more rows", b"pictures")]
    assert traces(store_root, *hashes, "picking") == []
    share = await share_of(database, erasure, SERVICE)
    counted = {"versions": 2, "files": 3, "datasets": 1, "objects": 3, "objects_kept_for_others": 1}
    assert msgspec.json.decode(share["removed"]) == counted
    assert (store_root / "robot_A/someone/other/meta/info.json").read_bytes() == b"{}"
    assert await database.value("SELECT count(*) FROM dataset") == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_whoever_dies_in_the_middle_is_followed(
    film, back_up, pool, store, store_root, catalog, database, after
):
    """At each change of the store, before and after it: the next one goes on, and counts nothing twice."""
    deaths, died, video = 0, True, encode_video(10)
    while died:
        session, name = record_session(database.url, 120), f"someone/picking{deaths}"
        await film(session, video)
        await back_up(FILES, name)
        erasures = [await ask_session(database, session), await ask_dataset(database, "robot_A", name)]
        dying = DyingStore(store, deaths + 1, after=after)
        eraser = FileEraser(pool, dying, Uploads(UploadTable(pool), dying, catalog))
        try:
            await Erasing(pool, SERVICE, eraser.erase).once()
            died = False
        except Died:
            deaths += 1
            eraser = FileEraser(pool, store, Uploads(UploadTable(pool), store, catalog))
            await Erasing(pool, SERVICE, eraser.erase).once()
        assert traces(store_root, "picking", f"/sessions/{session}/") == []
        assert not [path for path in (store_root / ".objects").rglob("*") if path.is_file()]
        told = [await share_of(database, each, SERVICE) for each in erasures]
        assert all(each["done_at"] is not None for each in told)
        assert msgspec.json.decode(told[0]["removed"]) == {"video_chunks": 1, "objects": 1}
        counted = {"versions": 1, "files": 3, "datasets": 1, "objects": 3}
        assert msgspec.json.decode(told[1]["removed"]) == counted
    assert deaths > 10


async def test_notes_that_the_database_does_not_know_go_too(session, film, store_root, database, erasing):
    """It was restored to an older state, so only the store knows of the chunk."""
    content = encode_video(10)
    await film(session, content)
    await database.connection.execute("DELETE FROM video_chunk; DELETE FROM stored_object")
    await ask_session(database, session)
    await erasing.once()
    assert traces(store_root, sha256_of(content), f"/sessions/{session}/") == []


async def test_open_uploads_go_and_nothing_new_is_taken(
    session, back_up, film, catalog, uploads, store, store_root, keep, pool, database, erasing
):
    """Refused before a byte is sent, and in words that say who erased it."""
    await back_up(FILES)
    content, video = b"new rows" * 1000, encode_video(10)
    planned = await uploads.plan(FilePlan(dataset_file(content, "data/new.parquet")), None)
    filmed = await uploads.plan(FilePlan(video_file(video, session)), None)
    assert planned.upload
    assert filmed.upload
    await ask_dataset(database, "robot_A", NAME)
    await ask_session(database, session)
    await erasing.once()
    assert await database.value("SELECT count(*) FROM upload") == 0
    assert not list((store_root / ".incoming").iterdir())
    with pytest.raises(DatasetErased, match=r"was erased for good by anna on 20.* UTC"):
        await uploads.plan(FilePlan(dataset_file(content, "data/new.parquet")), None)
    stream = await database.value("SELECT stream_id FROM teleop_session WHERE id = $1", session)
    for named in (session, stream):
        with pytest.raises(SessionErased, match=f"session {session} was erased for good by anna"):
            await uploads.plan(FilePlan(video_file(video, named)), None)
    with pytest.raises(DatasetErased):
        await commit_version(pool, store, "robot_A", NAME, manifest_of(FILES))
    await database.connection.execute("DELETE FROM teleop_session WHERE id = $1", session)
    for named in (session, stream):
        with pytest.raises(SessionErased):
            await catalog.find(video_file(video, named))


async def test_bytes_that_come_too_late_do_not_stay(session, catalog, keep, store, database):
    """The upload was whole when the erasure came: its object goes, unless others need it."""
    for file, ask in (
        (dataset_file(b"late"), ask_dataset(database, "robot_A", NAME)),
        (video_file(b"late video", session), ask_session(database, session)),
    ):
        await keep(b"late" if file.size_bytes == 4 else b"late video")
        await ask
        with pytest.raises((DatasetErased, SessionErased)):
            await catalog.accept(file)
        assert await store.size(file.sha256) is None


async def test_what_is_being_stored_is_waited_for(session, film, store, database):
    """An erasure that is asked for while a file gets its row waits for it, and removes it."""
    content, held = encode_video(10), asyncio.Event()
    named, real = asyncio.Event(), store.name

    async def name(path: str, sha256: str) -> None:
        named.set()
        await held.wait()
        await real(path, sha256)

    store.name = name
    filming = asyncio.create_task(film(session, content))
    await named.wait()
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(stream_id::text, 33)) FROM teleop_session"
    assert not await database.value(lock)
    held.set()
    await filming
    assert await database.value(lock)


async def test_a_base_that_is_in_use_is_waited_for(back_up, uploads, store, database, erasing):
    """The object goes once the other upload has ended, and until then the erasure is not done."""
    await back_up({"meta/info.json": b"base of others"})
    upload_id = await begun(store, b"x")
    await database.connection.execute(
        """INSERT INTO upload (id, file, length, plan_key, base, expires_at)
           VALUES ($1, '{"kind": "dataset", "robot_id": "b", "dataset": "x", "size_bytes": 9}',
                   9, 'k', $2, now() + interval '1 day')""",
        upload_id,
        sha256_of(b"base of others"),
    )
    erasure = await ask_dataset(database, "robot_A", NAME)
    await erasing.once()
    share = await share_of(database, erasure, SERVICE)
    assert share["done_at"] is None
    assert "running uploads build upon" in share["problem"]
    await uploads.terminate(upload_id)
    await erasing.once()
    share = await share_of(database, erasure, SERVICE)
    assert (share["done_at"] is None, share["problem"]) == (False, None)
    assert await store.size(sha256_of(b"base of others")) is None


async def test_two_replicas_do_not_count_twice(session, film, pool, store, uploads, database):
    """Both look at the same time; one erases."""
    for number in range(5):
        await film(session, encode_video(10 + number), chunk_index=number)
    erasure = await ask_session(database, session)
    replicas = [Erasing(pool, SERVICE, FileEraser(pool, store, uploads).erase) for _ in range(2)]
    await asyncio.gather(*(replica.once() for replica in replicas))
    share = await share_of(database, erasure, SERVICE)
    assert msgspec.json.decode(share["removed"]) == {"video_chunks": 5, "objects": 5}
