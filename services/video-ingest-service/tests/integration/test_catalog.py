"""What is stored under which name, on a real PostgreSQL and a real folder."""

import asyncio
from uuid import UUID, uuid4

import pytest
from teleop_runtime.store import PathTaken, open_store
from teleop_schema.errors import BackendError, BadInput, BadRobotId, SessionErased
from teleop_testing.datasets.erased import ask_session
from teleop_testing.datasets.files import dataset_file, encode_video, sha256_of, video_file
from teleop_testing.datasets.recorded import record_session
from teleop_video_ingest.errors import (
    ChunkConflict,
    NamesOverlap,
    ObjectGone,
    RobotMismatch,
    UnknownSession,
)
from teleop_video_ingest.files import catalog as catalogs
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.files.probe import Prober


async def test_a_dataset_file_gets_its_name_and_its_receipt(catalog, keep, store_root):
    """The plain tree holds the bytes; asked again, the catalog answers with the same receipt."""
    file = dataset_file(b'{"fps": 30}')
    await keep(b'{"fps": 30}')
    receipt, new = await catalog.accept(file)
    assert new
    assert receipt.path == "robot_A/someone/picking/meta/info.json"
    assert (store_root / receipt.path).read_bytes() == b'{"fps": 30}'
    assert await catalog.find(file) == receipt
    assert await catalog.accept(file) == (receipt, False)


async def test_new_content_is_a_new_revision(catalog, keep, store_root, database):
    """The tree shows the newest one; the older bytes are kept."""
    for content in (b"one", b"two", b"one"):
        await keep(content)
        await catalog.accept(dataset_file(content))
    assert (store_root / "robot_A/someone/picking/meta/info.json").read_bytes() == b"one"
    rows = await database.fetch("SELECT revision, sha256 FROM dataset_file ORDER BY revision")
    assert [(row["revision"], row["sha256"]) for row in rows] == [
        (1, sha256_of(b"one")),
        (2, sha256_of(b"two")),
        (3, sha256_of(b"one")),
    ]


async def test_bytes_that_are_there_need_not_be_sent(catalog, keep, store_root):
    """Under another name, of another robot, or left by a process that died before it noted them."""
    await keep(b"left behind")
    for changes in ({}, {"path": "meta/copy.json"}, {"robot_id": "robot_B"}):
        receipt = await catalog.adopt(dataset_file(b"left behind", **changes), robot_ids=None)
        assert receipt is not None
        assert (store_root / receipt.path).read_bytes() == b"left behind"
    assert await catalog.adopt(dataset_file(b"never seen"), robot_ids=None) is None


async def test_a_video_is_looked_into_and_named(catalog, keep, session, store_root, database):
    """Its row tells what it is; session may be named by number or stream."""
    content = encode_video(30)
    await keep(content)
    stream = UUID(str(await database.value("SELECT stream_id FROM teleop_session")))
    file = video_file(content, stream, indices=range(0, 60, 2))
    receipt, new = await catalog.accept(file)
    assert new
    assert receipt.path == f"robot_A/sessions/{session}/front/000000.mp4"
    assert (store_root / receipt.path).read_bytes() == content
    (row,) = await database.fetch("SELECT * FROM video_chunk")
    found = {key: row[key] for key in ("codec", "pix_fmt", "width", "height", "frame_count", "fps")}
    assert found == {
        "codec": "h264",
        "pix_fmt": "yuv420p",
        "width": 64,
        "height": 48,
        "frame_count": 30,
        "fps": 30.0,
    }
    assert (row["quarantine"], row["first_frame_index"], row["id"]) == (None, 0, receipt.id)
    assert row["frame_indices"] == list(range(0, 60, 2))
    assert await catalog.find(video_file(content, session, indices=range(0, 60, 2))) == receipt


async def test_answer_says_that_it_is_no_video(catalog, keep, session):
    """It is kept all the same, and the same again is answered alike."""
    content = b"a spreadsheet"
    await keep(content)
    receipt, new = await catalog.accept(video_file(content, session))
    assert new
    assert receipt.quarantine is not None
    assert await catalog.find(video_file(content, session)) == receipt


async def test_a_chunk_is_never_replaced(catalog, keep, session, store_root):
    """Other bytes under the key of a stored chunk are a conflict, before and after they were sent."""
    first, second = encode_video(seed=1), encode_video(seed=2)
    for content in (first, second):
        await keep(content)
    receipt, _ = await catalog.accept(video_file(first, session))
    for attempt in (catalog.find, catalog.accept):
        with pytest.raises(ChunkConflict):
            await attempt(video_file(second, session))
    assert (store_root / receipt.path).read_bytes() == first


async def test_video_of_an_unknown_session_is_wanted_later(catalog):
    """Telemetry may arrive after the video: the sender is told to try again."""
    for unknown in (77, 2**60, uuid4()):
        with pytest.raises(UnknownSession) as caught:
            await catalog.find(video_file(b"?", unknown))
        assert (caught.value.status, caught.value.retryable) == (404, True)


async def test_a_session_takes_video_of_its_own_robot_only(catalog, session, database):
    """Another robot's claim is refused: by a number, which it may have guessed, in the same words as if there
    were no such session; by its stream, it learns neither whose it is, nor who has erased it."""
    stream = await database.value("SELECT stream_id FROM teleop_session WHERE id = $1", session)

    async def refused(number: int | UUID, kind: type[BackendError]) -> str:
        with pytest.raises(kind) as caught:
            await catalog.find(video_file(b"?", number, robot_id="robot_B"))
        return caught.value.detail

    async def learns_nothing() -> None:
        told = await refused(session, UnknownSession)
        assert told.replace(f"session {session}", "session 77") == await refused(77, UnknownSession)
        assert "robot_A" not in await refused(stream, RobotMismatch)

    await learns_nothing()
    await ask_session(database, session)
    await learns_nothing()
    with pytest.raises(SessionErased):
        await catalog.find(video_file(b"?", session))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"robot_id": "../x"}, "robot_id"),
        ({"dataset": "../x"}, "dataset"),
        ({"dataset": "sessions/1"}, "dataset"),
        ({"dataset": "someone/verify"}, "dataset"),
        ({"path": "/etc/passwd.json"}, "path"),
        ({"path": "a/../../b.json"}, "path"),
        ({"path": "run.sh"}, "path"),
        ({"path": "a\0.json"}, "path"),
    ],
)
async def test_bad_names_are_refused(catalog, changes, field):
    """Before any byte is sent, naming the field."""
    for attempt in (catalog.find, catalog.accept):
        with pytest.raises((BadInput, BadRobotId)) as caught:
            await attempt(dataset_file(b"x", **changes))
        assert caught.value.field == field


async def test_a_camera_is_a_folder_name(catalog, session):
    """A camera whose name could climb out of the tree is refused."""
    with pytest.raises(BadInput) as caught:
        await catalog.find(video_file(b"?", session, camera_key="../front"))
    assert caught.value.field == "camera_key"


async def test_datasets_do_not_lie_within_each_other(catalog, keep):
    """Else two files of different datasets could have one path."""
    await keep(b"x")
    await catalog.accept(dataset_file(b"x", dataset="a/b"))
    for name in ("a", "a/b/c"):
        with pytest.raises(NamesOverlap):
            await catalog.find(dataset_file(b"x", dataset=name))
    await catalog.accept(dataset_file(b"x", dataset="a/bc"))
    await catalog.accept(dataset_file(b"x", dataset="a", robot_id="robot_B"))


async def test_accept_wants_the_bytes(catalog, database):
    """A receipt is never given for what the store does not hold; nothing is left behind."""
    with pytest.raises(ObjectGone):
        await catalog.accept(dataset_file(b"not there"))
    assert await database.value("SELECT count(*) FROM stored_object") == 0
    assert await database.value("SELECT count(*) FROM dataset") == 0


async def test_two_replicas_may_accept_the_same_at_once(pool, store_root, prober, keep, session, database):
    """One row, one receipt, whoever was first."""
    content = encode_video()
    await keep(content)
    await keep(b"{}")
    replicas = [Catalog(pool, open_store(str(store_root)), prober) for _ in range(2)]
    for file in (video_file(content, session), dataset_file(b"{}")):
        answers = await asyncio.gather(*(replicas[turn % 2].accept(file) for turn in range(6)))
        assert len({receipt.stored_at for receipt, _ in answers}) == 1
        assert sum(new for _, new in answers) == 1
    assert await database.value("SELECT count(*) FROM video_chunk") == 1
    assert await database.value("SELECT count(*) FROM dataset_file") == 1


async def test_of_two_different_chunks_at_once_one_wins(pool, store_root, prober, keep, session, database):
    """The row and the name in the tree are of the same one; the other is told of the conflict."""
    contents = [encode_video(seed=seed) for seed in range(4)]
    for content in contents:
        await keep(content)
    replicas = [Catalog(pool, open_store(str(store_root)), prober) for _ in range(2)]
    attempts = [
        replicas[turn % 2].accept(video_file(content, session)) for turn, content in enumerate(contents)
    ]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(answer, ChunkConflict) for answer in answers) == 3
    (row,) = await database.fetch("SELECT sha256, file_path FROM video_chunk")
    assert sha256_of((store_root / row["file_path"]).read_bytes()) == row["sha256"]


async def test_the_base_of_a_file_is_what_its_path_holds(catalog, keep):
    """With the chunk list that its sender gave, so that the next one need send only what is new."""
    assert await catalog.base_of(dataset_file(b"next")) is None
    sha256 = await keep(b"first")
    await catalog.accept(dataset_file(b"first"), chunks=b"c" * 20)
    assert await catalog.base_of(dataset_file(b"next")) == (sha256, b"c" * 20)
    await keep(b"plain")
    await catalog.accept(dataset_file(b"plain"))
    assert await catalog.base_of(dataset_file(b"next")) is None


async def test_damaged_bytes_are_wanted_again_and_heal_everywhere(catalog, keep, store_root, database):
    """Until the robot has sent them anew they are not known; then every name of them is whole."""
    sha256 = await keep(b"precious")
    paths = [
        (await catalog.accept(dataset_file(b"precious", path)))[0].path for path in ("a.json", "b/c.json")
    ]
    for path in paths:
        (store_root / path).chmod(0o644)
        (store_root / path).write_bytes(b"precioUs")
    await database.connection.execute("UPDATE stored_object SET damage = 'a bit flipped'")
    assert await catalog.find(dataset_file(b"precious", "a.json")) is None
    assert await catalog.base_of(dataset_file(b"next", "a.json")) is None
    assert await keep(b"precious") == sha256
    _, new = await catalog.accept(dataset_file(b"precious", "a.json"))
    assert not new
    assert [(store_root / path).read_bytes() for path in paths] == [b"precious", b"precious"]
    assert await database.value("SELECT damage FROM stored_object") is None


@pytest.mark.parametrize(("first", "then"), [("a.json", "a.json/b.json"), ("a.json/b.json", "a.json")])
async def test_a_file_where_a_folder_is_and_the_reverse(catalog, keep, first, then):
    """Refused by the field, with what to do; what was there stays."""
    await keep(b"one")
    await catalog.accept(dataset_file(b"one", first))
    await keep(b"two")
    with pytest.raises(PathTaken) as refused:
        await catalog.accept(dataset_file(b"two", then))
    assert (refused.value.field, refused.value.hint is not None) == ("path", True)
    assert (await catalog.find(dataset_file(b"one", first))) is not None


async def test_ten_robots_may_have_the_same_dataset(catalog, keep, database, database_url):
    """The name is each robot's own; the bytes are kept once."""
    record_session(database_url, 1)
    await keep(b"shared")
    for number in range(10):
        await catalog.accept(dataset_file(b"shared", robot_id=f"robot_{number}"))
    assert await database.value("SELECT count(*) FROM dataset") == 10
    assert await database.value("SELECT count(*) FROM stored_object") == 1


async def test_a_receipt_does_not_wait_for_the_check(
    catalog, prober, keep, session, database, store_root, monkeypatch
):
    """The bytes are safe; what they are is found out afterwards, and the row says so until then."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    look = Prober._look

    async def look_later(*about):
        begun.set()
        await go_on.wait()
        return await look(*about)

    monkeypatch.setattr(Prober, "_look", look_later)
    monkeypatch.setattr(catalogs, "RECEIPT_WAITS_S", 0.01)
    content = encode_video(30)
    await keep(content)
    receipt, new = await catalog.accept(video_file(content, session, indices=range(30)))
    assert (new, receipt.quarantine) == (True, "not checked yet: it has just arrived")
    assert (store_root / receipt.path).read_bytes() == content
    await begun.wait()
    go_on.set()
    await asyncio.gather(*prober._going_on)
    (row,) = await database.fetch("SELECT quarantine, codec, look_after FROM video_chunk")
    assert tuple(row.values()) == (None, "h264", None)
