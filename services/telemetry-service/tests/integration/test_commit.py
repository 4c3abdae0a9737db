"""Commits that go wrong: nothing is lost, nothing doubled, and nobody pays for another one's trouble."""

import asyncio
import random
import string
import struct

import pytest
from teleop_schema.errors import Fenced
from teleop_schema.limits import LAST_US, MAX_TEXT_LENGTH
from teleop_schema.messages import Event
from teleop_telemetry.receiving import batcher
from teleop_telemetry.receiving.commit import FrameExists, OutOfStep, Unstorable
from teleop_telemetry.receiving.writer import Writer
from teleop_testing.robots.robot import description
from teleop_testing.waiting import until

COMMITS = """
SELECT pid FROM pg_stat_activity
 WHERE application_name = 'lerobot-backend' AND datname = current_database() AND {condition}
"""

MARK = Event(kind="mark", frame_index=0, note="bad")


async def end_backends(database, condition: str) -> None:
    """Wait until the service has backends of which `condition` holds, and terminate them."""
    for row in await until(lambda: database.fetch(COMMITS.format(condition=condition))):
        await database.value("SELECT pg_terminate_backend($1)", row["pid"])


async def test_commit_of_unknown_outcome_that_happened(ingest, database):
    """A connection that breaks when the commit is durable already, unheard, neither loses nor doubles."""
    writer = await ingest.writer()
    await database.connection.execute("SET synchronous_commit = local")
    await database.connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try:
        await database.connection.execute("SELECT pg_reload_conf()")
        await ingest.send(writer, 0, 10)
        # The commit is on disk and waits for a standby that does not exist.
        await end_backends(database, "wait_event = 'SyncRep'")
    finally:
        await database.connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await database.connection.execute("SELECT pg_reload_conf()")
    await writer.settled()
    assert writer.committed == 10
    assert await database.frame_indexes(writer.session_id) == list(range(10))


async def test_commit_of_unknown_outcome_that_did_not_happen(ingest, database):
    """A connection that breaks before the commit is durable: the same frames are sent again."""
    writer = await ingest.writer()
    async with database.commits_blocked():
        await ingest.send(writer, 0, 10)
        await end_backends(database, "wait_event_type = 'Lock'")
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(10))


async def test_one_refused_frame_becomes_a_gap(ingest, database):
    """Of all robots' frames in one commit, exactly the one that the database refuses is missing, by name."""
    await database.refuse_frame(77)
    writers = [await ingest.writer() for _ in range(6)]
    async with database.commits_blocked():
        for number, writer in enumerate(writers):
            await ingest.send(writer, 0, 100 if number == 3 else 50)
    await asyncio.gather(*(writer.settled() for writer in writers))
    for number, writer in enumerate(writers):
        wanted = [index for index in range(100 if number == 3 else 50) if index != 77]
        assert await database.frame_indexes(writer.session_id) == wanted
    [(session, first, end, reason)] = await database.gaps()
    assert (session, first, end) == (writers[3].session_id, 77, 78)
    assert reason == "refused: injected"


async def test_refused_frame_keeps_its_neighbours_events_and_extra(ingest, database):
    """Looking for a refused frame does not lose what else the block carried."""
    await database.refuse_frame(3)
    writer = await ingest.writer()
    start = Event(kind="episode_start", frame_index=0, episode_index=0)
    await ingest.send(writer, 0, 8, events=(start,), extra={2: {"a": 1}, 5: {"b": 2}})
    await writer.settled()
    rows = await database.fetch("SELECT frame_index, extra FROM teleop_frame WHERE extra IS NOT NULL")
    assert [tuple(row.values()) for row in rows] == [(2, '{"a": 1}'), (5, '{"b": 2}')]
    assert await database.value("SELECT start_frame FROM episode") == 0
    assert len(await database.frame_indexes(writer.session_id)) == 7


async def test_refused_event_costs_no_frame(ingest, database):
    """An event that the database refuses is dropped, loudly; frames and other events are stored."""
    await database.fail_inserts("NEW.note = 'bad'", "22000", table="session_mark")
    writer = await ingest.writer()
    good = Event(kind="mark", frame_index=4, note="good")
    await ingest.send(writer, 0, 20, events=(MARK, good))
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(20))
    assert await database.value("SELECT string_agg(note, ',') FROM session_mark") == "good"
    assert await database.gaps() == []


async def test_longest_note_is_stored(ingest, database):
    """A note of the greatest length fits, however badly it compresses."""
    note = "".join(random.Random(1).choices(string.printable[:90], k=MAX_TEXT_LENGTH))
    writer = await ingest.writer()
    for first in (0, 1):
        await ingest.send(writer, first, 1, events=(Event(kind="mark", frame_index=0, note=note),))
    await writer.settled()
    assert await database.value("SELECT note FROM session_mark") == note


async def test_frame_that_exists_is_an_alarm(ingest, database, capfd):
    """Two rows of one index can't be: the writer fails loudly, others of the commit do not."""
    strange, healthy = await ingest.writer(), await ingest.writer()
    await database.connection.execute(
        "INSERT INTO teleop_frame VALUES ($1, 5, now(), '{9,9}', '{9,9}')", strange.session_id
    )
    async with database.commits_blocked():
        await ingest.send(strange, 0, 10)
        await ingest.send(healthy, 0, 10)
    with pytest.raises(FrameExists):
        await strange.settled()
    await healthy.settled()
    assert await database.frame_indexes(healthy.session_id) == list(range(10))
    assert await database.frame_indexes(strange.session_id) == [5]
    assert "frames refused" in "".join(capfd.readouterr())


async def test_database_set_back_is_told(ingest, database):
    """A watermark below what this connection sends ends the connection, so that the robot rewinds."""
    writer = await ingest.writer()
    await ingest.send(writer, 0, 10)
    await writer.settled()
    await database.connection.execute("DELETE FROM teleop_frame")
    await database.connection.execute("UPDATE teleop_session SET next_frame_index = 0")
    await ingest.send(writer, 10, 10)
    with pytest.raises(OutOfStep):
        await writer.settled()


async def test_fenced_writer_costs_the_others_nothing(ingest, database):
    """In a commit with a writer of an older epoch, the others' frames are stored."""
    fenced, healthy = await ingest.writer(), await ingest.writer()
    await database.connection.execute(
        "UPDATE teleop_session SET epoch = epoch + 1 WHERE id = $1", fenced.session_id
    )
    async with database.commits_blocked():
        await ingest.send(fenced, 0, 10)
        await ingest.send(healthy, 0, 10)
    with pytest.raises(Fenced):
        await fenced.settled()
    await healthy.settled()
    assert await database.frame_indexes(fenced.session_id) == []
    assert await database.frame_indexes(healthy.session_id) == list(range(10))


async def test_older_and_newer_writer_in_one_commit(ingest, database):
    """Of two writers to one session in the same commit, only what the newer one sends is stored."""
    older = await ingest.writer()
    stream = await database.value("SELECT stream_id FROM teleop_session")
    opened = await ingest.table.open(stream, "robot_0", description(), delivery="acknowledged")
    newer = Writer(opened.id, opened.epoch, opened.next)
    await ingest.send(older, 5, 5)
    await ingest.send(newer, 0, 5)
    with pytest.raises(Fenced):
        await older.settled()
    await newer.settled()
    assert await database.frame_indexes(newer.session_id) == list(range(5))
    assert older.committed == 0


async def test_failed_writer_stores_nothing_more(ingest, database):
    """What a writer had waiting when it failed is dropped, and it takes nothing more."""
    writer = await ingest.writer()
    await database.connection.execute("UPDATE teleop_session SET epoch = epoch + 1")
    async with database.commits_blocked():
        await ingest.send(writer, 0, 5)
        await until(lambda: writer.in_flight)
        await ingest.send(writer, 5, 5)
    with pytest.raises(Fenced):
        await writer.settled()
    await until(lambda: not ingest.batcher._commits)
    assert (writer.waiting, ingest.batcher._held_bytes) == ([], 0)
    with pytest.raises(Fenced):
        await ingest.send(writer, 10, 5)


async def test_locked_session_keeps_nobody_waiting(ingest, database):
    """While somebody holds one session's row, the others are stored; that one follows when it is free."""
    locked, *others = [await ingest.writer() for _ in range(4)]
    async with database.connection.transaction():
        await database.connection.execute(
            "SELECT FROM teleop_session WHERE id = $1 FOR UPDATE", locked.session_id
        )
        for first in range(0, 50, 10):
            for writer in (*others, locked):
                if writer is not locked or first < 20:
                    await ingest.send(writer, first, 10)
            await asyncio.gather(*(writer.settled() for writer in others))
        assert locked.committed == 0
    await locked.settled()
    assert await database.frame_indexes(locked.session_id) == list(range(20))


async def test_each_writer_waits_with_few_bytes(ingest, database, monkeypatch):
    """While commits hang, a writer that holds enough is given no more; it is when they go on."""
    monkeypatch.setattr("teleop_telemetry.receiving.writer.MAX_WAITING_BYTES", 20_000)
    writer = await ingest.writer()
    async with database.commits_blocked():
        await ingest.send(writer, 0, 1)
        await until(lambda: writer.in_flight)
        for first in (1, 501):
            await ingest.send(writer, first, 500)
        third = asyncio.create_task(ingest.send(writer, 1001, 500))
        assert not (await asyncio.wait([third], timeout=0.3))[0]
    await third
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(1501))


async def test_frame_by_frame_is_no_reason_to_wait(ingest, database):
    """A robot that sends every frame by itself is not slowed down to the pace of commits."""
    writer = await ingest.writer()
    async with database.commits_blocked():
        for index in range(600):
            await ingest.send(writer, index, 1)
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(600))


async def test_all_writers_together_wait_with_limited_bytes(ingest, database, monkeypatch):
    """While commits hang, what is held in all is bounded; afterwards nothing is held any more."""
    limit = 4 * 2**20
    monkeypatch.setattr("teleop_telemetry.receiving.batcher.MAX_HELD_BYTES", limit)
    writers = [await ingest.writer() for _ in range(10)]
    extra = {number: {"note": "x" * 60_000} for number in range(8)}
    async with database.commits_blocked():
        sends = [
            asyncio.create_task(ingest.send(writer, first, 8, extra=extra))
            for first in (0, 8)
            for writer in writers
        ]
        await asyncio.wait(sends, timeout=0.5)
        assert any(not send.done() for send in sends)
        assert limit <= ingest.batcher._held_bytes < limit + 2**20
    await asyncio.gather(*sends)
    await asyncio.gather(*(writer.settled() for writer in writers))
    assert await database.value("SELECT count(*) FROM teleop_frame") == 10 * 16
    await until(lambda: not ingest.batcher._commits)
    assert ingest.batcher._held_bytes == 0


async def test_accounting_of_memory_ends_at_zero(ingest, database):
    """Blocks that were joined, cut or emptied on their way are let go of by what was counted for them."""
    writer = await ingest.writer()
    for first in range(0, 40, 2):
        times = struct.pack("<2q", LAST_US + 1, 0) if first % 3 else bytes(16)
        await ingest.send(writer, first, 2, timestamps=times, extra={0: {"a": "b"}})
    await writer.settled()
    await until(lambda: not ingest.batcher._commits)
    assert ingest.batcher._held_bytes == 0
    assert ingest.batcher._ready_rows == 0


async def test_retry_survives_a_database_that_forgets_connections(ingest, database):
    """Every connection of the pool may be dead at once."""
    writer = await ingest.writer()
    await ingest.send(writer, 0, 5)
    await writer.settled()
    for row in await database.fetch(COMMITS.format(condition="true")):
        await database.value("SELECT pg_terminate_backend($1)", row["pid"])
    await ingest.send(writer, 5, 5)
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(10))


async def test_failure_of_unknown_class_is_sifted(ingest, database):
    """What fails again and again, for a reason that no class names, costs exactly its frames, by name."""
    await database.fail_inserts("NEW.frame_index IN (0, 37, 38, 99)", "XX000")
    writers = [await ingest.writer() for _ in range(5)]
    async with database.commits_blocked():
        for writer in writers:
            await ingest.send(writer, 0, 100)
    await asyncio.gather(*(writer.settled() for writer in writers))
    bad = [0, 37, 38, 99]
    for writer in writers:
        assert await database.frame_indexes(writer.session_id) == [n for n in range(100) if n not in bad]
    assert await database.gaps() == [
        (writer.session_id, index, index + 1, "refused: injected") for writer in writers for index in bad
    ]
    assert ingest.batcher.trouble.error is None


async def test_writer_of_which_nothing_can_be_stored_is_refused(ingest, database):
    """A robot of which no frame can be stored is refused, and keeps its frames: nothing is given up."""
    culprit, *others = [await ingest.writer() for _ in range(4)]
    await database.fail_inserts(f"NEW.session_id = {culprit.session_id}", "XX000")
    async with database.commits_blocked():
        for writer in (culprit, *others):
            await ingest.send(writer, 0, 50)
    with pytest.raises(Unstorable, match="injected"):
        await culprit.settled()
    for writer in others:
        await writer.settled()
        assert await database.frame_indexes(writer.session_id) == list(range(50))
    assert await database.gaps() == []
    assert await database.frame_indexes(culprit.session_id) == []


async def test_frames_that_can_not_be_merged_cost_their_connection(ingest, monkeypatch):
    """For want of memory, say: the writer is told, its share of the memory is free again, others go on."""
    unlucky, lucky = await ingest.writer(), await ingest.writer()
    merge = batcher.merge_blocks

    def fail(blocks):
        if blocks[0].rows == 7:
            raise MemoryError("no memory")
        return merge(blocks)

    monkeypatch.setattr(batcher, "merge_blocks", fail)
    await ingest.send(unlucky, 0, 7)
    await ingest.send(lucky, 0, 10)
    with pytest.raises(MemoryError):
        await unlucky.settled()
    await lucky.settled()
    assert ingest.batcher._held_bytes == 0
    with pytest.raises(MemoryError):
        await ingest.send(unlucky, 7, 7)


async def test_a_robot_of_which_all_content_is_refused_keeps_it(ingest, database):
    """Of a reason that speaks of content, too: not every frame of a robot becomes a gap."""
    writer = await ingest.writer()
    await database.fail_inserts("true", "22P02")
    await ingest.send(writer, 0, 50)
    with pytest.raises(Unstorable, match="injected"):
        await writer.settled()
    assert await database.gaps() == []
