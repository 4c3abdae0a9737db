"""Video chunks that nobody could look into when they came."""

import signal
from functools import partial

import pytest
from teleop_schema.migrations.versions import v0019_later_looks
from teleop_testing.files import dying_of, encode_video, video_file
from video_ingest_service import later_looks, probe
from video_ingest_service.adopt import adopt
from video_ingest_service.metrics import UNLOOKED

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
def later(pool, store, prober):
    """Looks into those whose time has come."""
    return partial(later_looks.look, pool, store, prober)


async def test_a_chunk_that_nobody_could_look_into_is_looked_into_later(
    film, later, database, monkeypatch, pool, store, store_root
):
    """Short of memory twice, then not any more: it is video as it always was, here and in a new database."""
    monkeypatch.setattr(probe, "WORKER", dying_of(signal.SIGKILL))
    await film()
    killed = "not looked into yet: the process was killed (SIGKILL)"
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
