"""Video chunks that nobody could look into when they came, or that an older release has looked into."""

import asyncio
import shutil
import signal

import pytest
from teleop_runtime.store import StoreUnusable
from teleop_schema.migrations.versions import v0019_later_looks
from teleop_testing.datasets.files import dying_of, encode_video, hide_first, sha256_of, turn_over, video_file
from teleop_video_ingest.adopt import adopt
from teleop_video_ingest.files import chunk_notes, probe
from teleop_video_ingest.metrics import CORRECTED, OUTDATED, QUARANTINED, UNLOOKED
from teleop_video_ingest.model.worker_messages import LOOK_VERSION
from teleop_video_ingest.upkeep import later_looks
from teleop_video_ingest.upkeep.later_looks import LaterLooks

ROW = "SELECT quarantine, look_after > now() AS later, failed_looks, codec, frame_count FROM video_chunk"
DUE = "UPDATE video_chunk SET look_after = now() WHERE look_after IS NOT NULL"


@pytest.fixture
def film(catalog, keep, session):
    """Stores a chunk of two pictures."""

    async def film() -> None:
        content = encode_video(2)
        await keep(content)
        await catalog.accept(video_file(content, session, indices=range(2)))

    return film


@pytest.fixture
def looks(pool, store, prober) -> LaterLooks:
    """Looks into chunks, as one replica does."""
    return LaterLooks(pool, store, prober)


@pytest.fixture
def later(looks):
    """Looks into those whose time has come."""
    return looks.look


async def test_a_chunk_that_nobody_could_look_into_is_looked_into_later(
    film, later, database, monkeypatch, pool, store, store_root
):
    """Short of memory twice, then not any more: it is video as it always was, here and in a new database."""
    monkeypatch.setattr(probe, "WORKER", dying_of(signal.SIGKILL))
    await film()
    killed = "not checked yet: the process was killed (SIGKILL)"
    assert tuple((await database.fetch(ROW))[0].values()) == (killed, True, 0, None, 2)
    await later()
    assert await database.value("SELECT failed_looks FROM video_chunk") == 0
    for times in (1, 2):
        await database.connection.execute(DUE)
        await later()
        assert tuple((await database.fetch(ROW))[0].values()) == (killed, True, times, None, 2)
    assert UNLOOKED.collect()[0].samples[0].value == 1
    await pool.execute("TRUNCATE stored_object CASCADE")
    await adopt(pool, store, str(store_root))
    monkeypatch.undo()
    await database.connection.execute(DUE)
    await later()
    assert tuple((await database.fetch(ROW))[0].values())[:2] == (None, None)
    assert await database.value("SELECT codec FROM video_chunk") == "h264"
    assert UNLOOKED.collect()[0].samples[0].value == 0


async def test_what_nobody_can_look_into_for_long_is_told(film, looks, database, monkeypatch):
    """After half an hour, with the reason, until somebody could."""
    await looks.check()
    monkeypatch.setattr(probe, "WORKER", dying_of(signal.SIGKILL))
    await film()
    for _ in range(later_looks.TOLD_AFTER_LOOKS):
        await looks.check()
        await database.connection.execute(DUE)
        await looks.look()
    with pytest.raises(RuntimeError, match=r"1 video chunk can't be exported .*000000.mp4: .*\(SIGKILL\)"):
        await looks.check()
    monkeypatch.undo()
    await database.connection.execute(DUE)
    await looks.look()
    await looks.check()


async def test_a_later_look_may_be_a_verdict(film, later, database, monkeypatch):
    """Then it is not looked into any more."""
    monkeypatch.setattr(probe, "WORKER", dying_of(signal.SIGKILL))
    await film()
    monkeypatch.setattr(probe, "WORKER", dying_of(signal.SIGSEGV))
    await database.connection.execute(DUE)
    await later()
    found = await database.fetch(ROW)
    assert (found[0]["quarantine"], found[0]["later"]) == ("the decoder crashed on it (SIGSEGV)", None)


async def test_what_was_quarantined_without_a_verdict_is_looked_into(film, later, database):
    """By an older release, which took a killed process, or too little time, for the file's fault."""
    await film()
    for quarantine in ("the decoder crashed on it (SIGKILL)", "looking into it takes more than 60 s"):
        await database.connection.execute("UPDATE video_chunk SET quarantine = $1", quarantine)
        await database.connection.execute(v0019_later_looks.RELEASE)
        await later()
        assert await database.value("SELECT quarantine FROM video_chunk") is None
    await database.connection.execute(
        "UPDATE video_chunk SET quarantine = 'the decoder crashed on it (SIGSEGV)'"
    )
    await database.connection.execute(v0019_later_looks.RELEASE)
    await later()
    assert await database.value("SELECT quarantine FROM video_chunk") == "the decoder crashed on it (SIGSEGV)"


# As releases left them that counted what an edit list hides, and knew nothing of rotation.
OLDER = """
UPDATE video_chunk SET look_version = 1, quarantine = NULL, frame_count = frame_count + $1
 WHERE chunk_index = $2
"""
CHUNKS = """
SELECT frame_count, quarantine, corrected_at IS NOT NULL, look_version, look_after
  FROM video_chunk ORDER BY chunk_index
"""


def value(metric) -> float:
    return metric.collect()[0].samples[0].value


@pytest.fixture
def arrive(catalog, keep, session):
    """Stores a chunk, of which only the time is told."""

    async def arrive(index: int, content: bytes) -> None:
        await keep(content)
        await catalog.accept(video_file(content, session, chunk_index=index))

    return arrive


async def test_what_an_older_release_looked_into_is_looked_into_again(arrive, later, database, pool, store):
    """Once: pictures are counted as players show them, what they turn is quarantined, what was right stays; a
    new database learns it so, too."""
    for index, content in enumerate(
        [encode_video(30), hide_first(encode_video(30), 3), turn_over(encode_video(9))]
    ):
        await arrive(index, content)
    for index, too_many in enumerate([0, 3, 0]):
        await database.connection.execute(OLDER, too_many, index)
    corrected, quarantined = value(CORRECTED), value(QUARANTINED)
    await later()
    right, counted, turned = (tuple(row.values()) for row in await database.fetch(CHUNKS))
    assert right == (30, None, False, LOOK_VERSION, None)
    assert counted == (27, None, True, LOOK_VERSION, None)
    assert "rotate its pictures by 180 degrees" in turned[1]
    assert turned[2:] == (True, LOOK_VERSION, None)
    assert (value(CORRECTED) - corrected, value(QUARANTINED) - quarantined) == (2, 1)
    assert value(OUTDATED) == 0
    await pool.execute("TRUNCATE video_chunk")
    await chunk_notes.adopt_chunks(pool, store)
    assert [tuple(row.values()) for row in await database.fetch(CHUNKS)] == [right, counted, turned]


async def test_a_big_library_is_looked_into_a_few_at_a_time(arrive, later, database, monkeypatch):
    """The newest first, and after what nobody could look into yet; until then what is known holds."""
    monkeypatch.setattr(later_looks, "LOOKED_TOGETHER", 2)
    content = encode_video(30)
    for index in range(4):
        await arrive(index, content)
        await database.connection.execute(OLDER, 5, index)
    await database.connection.execute(
        "UPDATE video_chunk SET look_after = now(), look_version = 0 WHERE chunk_index = 0"
    )
    for outdated, counts in [(2, [30, 35, 35, 30]), (0, [30, 30, 30, 30])]:
        await later()
        assert value(OUTDATED) == outdated
        assert [row["frame_count"] for row in await database.fetch(CHUNKS)] == counts


async def test_two_replicas_look_again_at_once(arrive, looks, pool, store, prober, database):
    """Each chunk ends up right, and is told of once."""
    contents = [hide_first(encode_video(30, seed=seed), 3) for seed in range(6)]
    for index, content in enumerate(contents):
        await arrive(index, content)
        await database.connection.execute(OLDER, 3, index)
    corrected = value(CORRECTED)
    await asyncio.gather(looks.look(), LaterLooks(pool, store, prober).look())
    assert [row["frame_count"] for row in await database.fetch(CHUNKS)] == [27] * 6
    assert value(CORRECTED) - corrected == 6


async def test_a_look_again_that_comes_to_no_end_changes_nothing(
    arrive, later, database, prober, monkeypatch
):
    """What is known holds; it is tried again, and does not count as never looked into."""
    await arrive(0, hide_first(encode_video(30), 3))
    await database.connection.execute(OLDER, 3, 0)
    await prober._idle[0].end()
    monkeypatch.setattr(probe, "WORKER", dying_of(signal.SIGKILL))
    await later()
    assert tuple((await database.fetch(CHUNKS))[0].values())[:4] == (30, None, False, 1)
    assert (value(UNLOOKED), value(OUTDATED)) == (0, 1)
    monkeypatch.undo()
    await database.connection.execute(DUE)
    await later()
    assert (await database.fetch(CHUNKS))[0]["frame_count"] == 27


async def test_a_store_that_is_away_is_no_damage_of_its_video(arrive, later, database, store, store_root):
    """Nothing is noted of a chunk while the disk of all is not mounted; then it is looked into."""
    content = hide_first(encode_video(30), 3)
    await store.own("this database")
    await arrive(0, content)
    await database.connection.execute(OLDER, 3, 0)
    away = store_root.rename(store_root.with_name("away"))
    with pytest.raises(StoreUnusable):
        await later()
    assert await database.value("SELECT count(*) FROM stored_object WHERE damage IS NOT NULL") == 0
    shutil.rmtree(store_root, ignore_errors=True)
    away.rename(store_root)
    await database.connection.execute(DUE)
    await later()
    assert (await database.fetch(CHUNKS))[0]["frame_count"] == 27


@pytest.mark.parametrize("gone", [False, True])
async def test_bytes_that_have_changed_say_nothing_of_what_was_sent(
    arrive, later, database, store_root, catalog, keep, session, gone
):
    """A disk's fault is told as damage, not as the video's; once it has come anew it is looked into."""
    content = hide_first(encode_video(30), 3)
    sha256 = sha256_of(content)
    await arrive(0, content)
    await database.connection.execute(OLDER, 3, 0)
    (stored,) = store_root.glob(f".objects/*/*/{sha256}")
    stored.chmod(0o600)
    stored.unlink() if gone else stored.write_bytes(bytes(len(content)))
    for _ in range(2):
        await later()
        assert tuple((await database.fetch(CHUNKS))[0].values())[:4] == (30, None, False, 1)
        assert await database.value("SELECT damage FROM stored_object") is not None
    await keep(content)
    await catalog.accept(video_file(content, session))
    await database.connection.execute(DUE)
    await later()
    assert (await database.fetch(CHUNKS))[0]["frame_count"] == 27
