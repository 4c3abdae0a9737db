"""Which states of a recording the sweep removes, and which it leaves alone."""

import random
import struct

from teleop_testing.datasets.files import dataset_file, sha256_of
from teleop_video_ingest.adopt import adopt
from teleop_video_ingest.datasets.recordings import beginnings

AN_HOUR_AGO = "UPDATE stored_object SET stored_at = stored_at - interval '61 minutes'"


def mp4(pictures: bytes) -> bytes:
    """An mp4 as LeRobot writes it: what describes the pictures grows with them, and lies before them."""
    described = box(b"moov", bytes(len(pictures) // 4))
    return box(b"ftyp", b"isom") + described + box(b"free", b"") + box(b"mdat", pictures)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


async def versions_of(database) -> list[int]:
    rows = await database.fetch("SELECT version FROM dataset_version ORDER BY version")
    return [row["version"] for row in rows]


async def test_a_long_recording_keeps_few_copies_of_itself(sweeper, record, store, database, store_root):
    """Of the states before the end only the newest three stay, with their bytes; the last one always."""
    contents = [b"episode " * number for number in range(1, 11)]
    for number, content in enumerate(contents):
        await record(content, episodes=number)
    await sweeper.sweep()
    assert await versions_of(database) == [8, 9, 10]
    sizes = [await store.size(sha256_of(content)) for content in contents]
    assert [size is not None for size in sizes] == [False] * 7 + [True] * 3
    assert (store_root / "robot_A/ds/data/file.parquet").read_bytes() == contents[-1]
    assert await record(b"the end", finalised=True) == 11


async def test_finalised_versions_stay(sweeper, record, store, database):
    """However many newer ones there are, and whatever lies on the robot now."""
    await record(b"whole", finalised=True)
    for number in range(6):
        await record(b"resumed" * (number + 1), episodes=number)
    await sweeper.sweep()
    assert await versions_of(database) == [1, 5, 6, 7]
    assert await store.size(sha256_of(b"whole")) == 5


async def test_what_a_repair_came_from_stays(sweeper, record, database):
    """The torn original is kept beside the repaired version."""
    for number in range(6):
        await record(b"torn" * (number + 1), episodes=number)
    await database.connection.execute(
        "UPDATE dataset_version SET source = 'repair', repaired_from = 1, finalised = true WHERE version = 2"
    )
    await sweeper.sweep()
    assert await versions_of(database) == [1, 2, 4, 5, 6]


async def test_a_killed_recording_outlives_the_next_one_of_its_name(
    sweeper, record, store, store_root, database, pool
):
    """Its folder was removed, and the same command began anew: what later states do not hold stays, in the
    store and in its notes."""
    dead = [b"dead" * number for number in range(1, 6)]
    for number, content in enumerate(dead, 46):
        await record(content, episodes=number)
    alive = [b"alive" * number for number in range(1, 13)]
    for number, content in enumerate(alive, 1):
        await record(content, episodes=number)
        if number % 5 == 0:
            await sweeper.sweep()
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    assert await versions_of(database) == [3, 4, 5, 15, 16, 17]
    there = [content for content in dead + alive if await store.size(sha256_of(content)) is not None]
    assert there == dead[-3:] + alive[-3:]
    assert len([name async for name in store.list_notes("versions")]) == 6
    await pool.execute("TRUNCATE dataset, stored_object CASCADE")
    assert (await adopt(pool, store, str(store_root))).versions == 6
    await sweeper.sweep()
    assert await versions_of(database) == [3, 4, 5, 15, 16, 17]


async def test_two_computers_that_record_under_one_name(sweeper, record, database):
    """Their states come in turns; of each recording the newest three stay."""
    for number in range(1, 8):
        await record(b"left" * number, episodes=number)
        await record(b"right" * number, episodes=number)
        if number == 4:
            await sweeper.sweep()
    await sweeper.sweep()
    assert await versions_of(database) == [9, 10, 11, 12, 13, 14]


async def test_only_a_state_that_holds_all_takes_the_place_of_another(sweeper, record, database, store):
    """Fewer episodes, other rows, or bytes that are not there any more: then the earlier states stay."""
    for content, episodes in ((b"r", 9), (b"ro", 8), (b"row", 7), (b"rows", 6), (b"rows are there", 10)):
        await record(content, episodes=episodes)
    await store.remove(sha256_of(b"rows are there"))
    await sweeper.sweep()
    assert await versions_of(database) == [1, 2, 3, 4, 5]


async def test_files_without_any_version_stay(sweeper, keep, catalog, store, database):
    """Sent by hand, one after another to one path: each has a receipt, and no later one holds its bytes."""
    contents = [b"take %d" % number for number in range(6)]
    for content in contents:
        await keep(content)
        await catalog.accept(dataset_file(content, "meta/a.json", dataset="ds"))
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    assert [await store.size(sha256_of(content)) for content in contents] == [6] * 6
    assert await database.value("SELECT count(*) FROM dataset_file") == 6


async def test_revisions_that_no_version_refers_to(sweeper, keep, catalog, record, store, database):
    """Those that a recording went through go; one that came before it, and that nothing holds, stays."""

    async def send(content: bytes) -> None:
        await keep(content)
        await catalog.accept(dataset_file(content, "data/file.parquet", dataset="ds"))

    sent = [b"sent %d" % number for number in range(5)]
    for content in sent:
        await send(content)
    await sweeper.sweep()
    assert [await store.size(sha256_of(each)) is not None for each in sent] == [True] * 5
    for number in range(1, 6):
        await record(b"row" * number, episodes=number)
        await send(b"row" * number + b"torn")
    await record(b"row" * 6, episodes=6)
    await sweeper.sweep()
    assert [await store.size(sha256_of(each)) is not None for each in sent] == [True] * 5
    torn = [await store.size(sha256_of(b"row" * number + b"torn")) for number in range(1, 6)]
    assert [size is not None for size in torn] == [False] * 4 + [True]


async def test_a_clock_that_was_set_back_removes_no_revision(sweeper, keep, catalog, record, store, database):
    """What was sent by hand before a recording has times within it: nothing else holds its bytes."""
    sent = [b"sent %d" % number for number in range(5)]
    for content in sent:
        await keep(content)
        await catalog.accept(dataset_file(content, "data/file.parquet", dataset="ds"))
    for number in range(1, 4):
        await record(b"row" * number, episodes=number)
    await database.connection.execute(
        "UPDATE dataset_file SET stored_at = (SELECT max(created_at) FROM dataset_version) "
        "WHERE revision <= 5"
    )
    for number in range(4, 7):
        await record(b"row" * number, episodes=number)
        await sweeper.sweep()
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    assert [await store.size(sha256_of(each)) is not None for each in sent] == [True] * 5


async def test_videos_too_must_hold_what_was_there_before(sweeper, record, store, database):
    """Part of a video is lost on the robot's disk, and its recorder copies the hole: earlier states stay."""
    pictures = random.Random(8).randbytes(9_000)
    whole = [mp4(pictures[: 1000 * episodes]) for episodes in (1, 2, 3, 4)]
    for episodes, video in enumerate(whole, 1):
        await record(b"row" * episodes, video=video, episodes=episodes)
    damaged = pictures[:500] + bytes(100) + pictures[600:]
    for episodes in (5, 6, 7, 8):
        await record(b"row" * episodes, video=mp4(damaged[: 1000 * episodes]), episodes=episodes)
    await record(b"row" * 9, video=b"no mp4 at all, though it is a longer file" * 1000, episodes=9)
    await sweeper.sweep()
    assert await versions_of(database) == [2, 3, 4, 6, 7, 8, 9]
    assert [await store.size(sha256_of(video)) is not None for video in whole] == [False, True, True, True]


async def test_beginnings_of_an_object(keep, store):
    """The hash of the first bytes, for several sizes at once, at the ends of what is read at a time, too."""
    content = bytes(range(256)) * 20_000
    sizes = {1, 1 << 20, (1 << 20) + 1, len(content) - 1, len(content)}
    found = await beginnings(store, await keep(content), sizes)
    assert found == {sha256_of(content[:size]) for size in sizes}
