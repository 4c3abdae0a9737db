"""Tables, partitions and a disk that take no frames: they wait, and the reason is told."""

import pytest
from teleop_schema.errors import StorageUnavailable
from teleop_schema.messages import ErrorMessage
from teleop_telemetry.receiving import batcher, trouble
from teleop_telemetry.receiving.trouble import OF_CONTENT
from teleop_telemetry.receiving.writer import Writer
from teleop_testing.robots.robot import TestRobot, batch, description, dial
from teleop_testing.waiting import until


async def test_taking_over_brings_back_a_dropped_partition(ingest, database):
    """A partition that was dropped while a robot was away costs what it held, not what comes."""
    writer = await ingest.writer()
    stream = await database.value("SELECT stream_id FROM teleop_session")
    await database.connection.execute("DROP TABLE teleop_frame_0")
    opened = await ingest.table.open(stream, "robot_0", description(), delivery="acknowledged")
    again = Writer(opened.id, opened.epoch, opened.next)
    await ingest.send(again, 0, 5)
    await again.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(5))


DETACH = "ALTER TABLE teleop_frame DETACH PARTITION teleop_frame_0"
ATTACH = "ALTER TABLE teleop_frame ATTACH PARTITION teleop_frame_0 FOR VALUES FROM (0) TO (1000)"
WRONG_TABLES = {
    "detached": (DETACH, ATTACH, "teleop_frame_0 is there, but it is no partition of teleop_frame"),
    "column": (
        "ALTER TABLE teleop_frame ADD site text NOT NULL DEFAULT 'x'; "
        "ALTER TABLE teleop_frame ALTER site DROP DEFAULT",
        "ALTER TABLE teleop_frame DROP site",
        'null value in column "site"',
    ),
    "rule": (
        "ALTER TABLE teleop_frame ADD CONSTRAINT rule CHECK (frame_index < 5)",
        "ALTER TABLE teleop_frame DROP CONSTRAINT rule",
        'violates check constraint "rule"',
    ),
    "gaps": (
        "ALTER TABLE frame_gap ADD site text NOT NULL",
        "ALTER TABLE frame_gap DROP site",
        'null value in column "site"',
    ),
}


@pytest.mark.parametrize("wrong", [*WRONG_TABLES])
async def test_a_table_in_the_wrong_state_costs_no_frame(ingest, database, monkeypatch, wrong):
    """Frames wait while the table takes none of their session, and the reason is told; others are stored."""
    monkeypatch.setattr(batcher, "HELD_RETRY_S", 0.05)
    monkeypatch.setattr(trouble, "OF_ALL_AFTER_S", 0.0)
    harm, heal, reason = WRONG_TABLES[wrong]
    writer = await ingest.writer()
    await ingest.send(writer, 0, 5)
    await writer.settled()
    await database.connection.execute(harm)
    hollow = {"gap": "spool_full", "timestamps": b"", "state": b"", "action": b""}
    await ingest.send(writer, 5, 40, **(hollow if wrong == "gaps" else {}))
    error = await until(lambda: ingest.batcher.trouble.error)
    assert reason in error.detail
    with pytest.raises(StorageUnavailable):
        await ingest.batcher.trouble.check()
    await ingest.send(writer, 45, 5)
    await database.connection.execute(heal)
    await writer.settled()
    await until(lambda: ingest.batcher.trouble.error is None)
    assert writer.committed == 50


async def test_a_partition_that_is_gone_costs_what_it_held(ingest, database, monkeypatch):
    """It is made again, and a robot that streams into it goes on."""
    monkeypatch.setattr(batcher, "HELD_RETRY_S", 0.05)
    writer = await ingest.writer()
    await ingest.send(writer, 0, 5)
    await writer.settled()
    await database.connection.execute("DROP TABLE teleop_frame_0")
    await ingest.send(writer, 5, 40)
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(5, 45))
    assert await database.gaps() == []
    await until(lambda: ingest.batcher.trouble.error is None)


async def test_others_are_stored_while_a_table_refuses_one(ingest, database, monkeypatch):
    """A rule that somebody gave the table for one session holds up that one only, however many they are."""
    monkeypatch.setattr(batcher, "HELD_RETRY_S", 0.05)
    writers = [await ingest.writer() for _ in range(5)]
    held = writers[2].session_id
    await database.connection.execute(
        f"ALTER TABLE teleop_frame ADD CONSTRAINT rule CHECK (session_id <> {held})"
    )
    for first in (0, 10, 20):
        async with database.commits_blocked():
            for writer in writers:
                await ingest.send(writer, first, 10)
        for writer in (*writers[:2], *writers[3:]):
            await writer.settled()
    assert ingest.batcher.trouble.error is not None
    # The service is ready for the others, and says that it is not for one.
    await ingest.batcher.trouble.check()
    with pytest.raises(StorageUnavailable, match="rule"):
        await ingest.batcher.trouble.check_each()
    await database.connection.execute("ALTER TABLE teleop_frame DROP CONSTRAINT rule")
    await writers[2].settled()
    assert await database.frame_indexes(held) == list(range(30))
    assert await database.gaps() == []


async def test_a_session_opened_while_its_partition_is_detached(ingest, database):
    """It is refused with what is in the way and what to do about it."""
    await database.connection.execute(DETACH)
    with pytest.raises(StorageUnavailable, match="it is no partition of teleop_frame") as refusal:
        await ingest.writer()
    assert "ATTACH PARTITION teleop_frame_0 FOR VALUES" in refusal.value.hint


async def test_constraints_that_content_may_violate(database):
    """They are the schema's own: of all others a violation speaks of the table."""
    rows = await database.fetch("SELECT conname FROM pg_constraint WHERE conname = ANY($1)", list(OF_CONTENT))
    assert {row["conname"] for row in rows} == OF_CONTENT


async def test_disk_of_the_database_is_full(ingest, database):
    """While nothing can be stored nothing is given up; what is in the way is told, and when it is over."""
    await database.fail_inserts("true", "53100")
    writer = await ingest.writer()
    await ingest.send(writer, 0, 50)
    error = await until(lambda: ingest.batcher.trouble.error)
    assert error.code == "no_space"
    assert "disk of the database" in error.detail
    with pytest.raises(type(error)):
        await ingest.batcher.trouble.check()
    await database.heal()
    await writer.settled()
    assert await database.frame_indexes(writer.session_id) == list(range(50))
    await until(lambda: ingest.batcher.trouble.error is None)


async def test_trouble_is_told(service, http, database):
    """Robots of both modes, /readyz and /metrics name what keeps frames from being stored."""
    await database.fail_inserts("true", "53100")
    async with TestRobot.connected(service) as robot, dial(service, "plain", subprotocols=()) as plain:
        await robot.send(batch(0, 5))
        notice = await robot.hear(ErrorMessage)
        assert (notice.code, notice.fatal) == ("no_space", False)
        await plain.send('{"observation": {"a": 1}}')
        while "no_space" not in await plain.recv():
            pass
        answer = await http.get("/readyz")
        assert (answer.status_code, "disk" in answer.json()["commits"]) == (503, True)
        assert 'telemetry_commits_blocked{code="no_space"} 1.0' in (await http.get("/metrics")).text
        await database.heal()
        await robot.acked(5)

    async def ready() -> bool:
        return (await http.get("/readyz")).status_code == 200

    await until(ready)
    assert "telemetry_commits_blocked{" not in (await http.get("/metrics")).text
