"""What the sweep removes, and what it leaves alone."""

import asyncio
import os
import random
import shutil
import struct
import sys
from pathlib import Path

import pytest
from teleop_runtime.store import StoreUnusable
from teleop_runtime.store.local import LocalStore
from teleop_testing.datasets.files import dataset_file, encode_video, manifest_of, sha256_of, video_file
from teleop_testing.datasets.storing import begun
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.adopt import adopt
from teleop_video_ingest.datasets.recordings import beginnings
from teleop_video_ingest.datasets.versions import commit_version
from teleop_video_ingest.errors import ObjectGone
from teleop_video_ingest.files.verification import verify_objects
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.upkeep.sweep import Sweeper
from teleop_video_ingest.uploads.uploads import Uploads

AN_HOUR_AGO = "UPDATE stored_object SET stored_at = stored_at - interval '61 minutes'"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"


@pytest.fixture
def sweeper(pool, store, catalog) -> Sweeper:
    """A sweep of this test's own."""
    return Sweeper(pool, store, Uploads(UploadTable(pool), store, catalog))


@pytest.fixture
def record(pool, store, catalog, keep):
    """Stores a state of a dataset, one file of which has `content`, and one `video`, as a version."""

    async def record(
        content: bytes, *, video: bytes | None = None, finalised: bool = False, episodes: int = 1
    ) -> int:
        files = {"meta/info.json": b"{}", "data/file.parquet": content}
        if video is not None:
            files[VIDEO] = video
        for path, each in files.items():
            await keep(each)
            await catalog.accept(dataset_file(each, path, dataset="ds"))
        manifest = manifest_of(files, finalised=finalised, episodes=episodes)
        version, _ = await commit_version(pool, store, "robot_A", "ds", manifest)
        return version.version

    return record


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


async def test_what_the_database_does_not_know_stays_until_an_operator_removes_it(
    sweeper, keep, store, database, database_url, store_root
):
    """Of a process that died, or of a newer database than this: it may be data that is nowhere else."""
    sha256 = await keep(b"orphan")
    name = "robot_A/sessions/3/front/000000.mp4"
    await store.name(name, sha256)
    await sweeper.sweep()
    assert await database.value("SELECT size_bytes FROM stored_object WHERE sha256 = $1", sha256) == 6
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    assert await store.size(sha256) == 6
    told = await unclaimed(database_url, store_root)
    assert f"{sha256}  6 bytes  {name}\nunclaimed: 1 object, 6 bytes" in told
    assert await store.size(sha256) == 6
    assert "1 object removed" in await unclaimed(database_url, store_root, "--remove")
    assert await store.size(sha256) is None
    assert not (store_root / name).exists()
    assert await database.value("SELECT count(*) FROM stored_object") == 0


async def unclaimed(database_url, store_root, *options: str) -> str:
    """What the operator's command prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "teleop_video_ingest.unclaimed", *options),
        env={**os.environ, "DATABASE_URL": database_url, "STORE_URL": str(store_root)},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        told, _ = await process.communicate()
    assert process.returncode == 0
    return told.decode()


async def test_what_the_database_has_let_go_is_removed(sweeper, record, catalog, store, database):
    """Something referred to it once, and nothing does any more: its bytes go, if late."""
    await record(b"let go")
    await database.connection.execute("DELETE FROM dataset_version")
    await database.connection.execute("DELETE FROM dataset_file")
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    assert await store.size(sha256_of(b"let go")) is None


async def test_an_adopted_object_may_still_be_claimed(sweeper, keep, store, catalog, database):
    """The robot that sends the same file later need not send its bytes; then it stays."""
    sha256 = await keep(b"orphan")
    name = "robot_A/sessions/3/front/000000.mp4"
    await store.name(name, sha256)
    await sweeper.sweep()
    await database.connection.execute(AN_HOUR_AGO)
    assert await catalog.adopt(dataset_file(b"orphan"), robot_ids=None) is not None
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    assert await store.size(sha256) == 6


async def test_bytes_of_uploads_that_nobody_knows_go(sweeper, store, store_root, pool):
    """Of those that a database knew which was restored to an older state, a week after their last byte."""
    old, young, known = [await begun(store, b"some") for _ in range(3)]
    await UploadTable(pool).add(known, lasts_s=60)
    for upload in (old, known):
        os.utime(store_root / ".incoming" / str(upload), (0, 0))
    await sweeper.sweep()
    assert {upload async for upload, _ in store.list_uploads()} == {young, known}


async def test_nothing_that_is_referred_to_goes(sweeper, catalog, keep, store, session, record, database):
    """Videos, files of the tree, files of versions, and the bases of uploads on their way."""
    video = encode_video(2)
    await keep(video)
    await catalog.accept(video_file(video, session))
    await record(b"data")
    base = await keep(b"base")
    await sweeper.sweep()
    await database.connection.execute(
        """INSERT INTO upload (id, base, expires_at)
           VALUES (gen_random_uuid(), $1, now() + interval '1 day')""",
        base,
    )
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    for content in (video, b"data", b"{}", b"base"):
        assert await store.size(sha256_of(content)) == len(content)


async def test_missing_and_shrunken_objects_are_reported(sweeper, record, store_root, database):
    """Rows whose object is not what they say are damage, found without reading every byte."""
    await record(b"will vanish")
    for content, hurt in ((b"will vanish", lambda path: path.unlink()), (b"{}", shrink)):
        sha256 = sha256_of(content)
        hurt(store_root / ".objects" / sha256[:2] / sha256[2:4] / sha256)
    await sweeper.sweep()
    rows = await database.fetch("SELECT sha256, damage FROM stored_object")
    damage = {row["sha256"]: row["damage"] for row in rows}
    assert damage == {
        sha256_of(b"will vanish"): "it is missing",
        sha256_of(b"{}"): "it has 1 bytes, not 2",
    }


async def test_a_store_that_is_not_there_is_no_damage(sweeper, record, store, store_root, database):
    """Its disk is not mounted: nothing is noted, since all of it will be there again."""
    await store.own("this database")
    await record(b"on the disk")
    away = store_root.rename(store_root.with_name("away"))
    LocalStore.open(store_root)
    with pytest.raises(StoreUnusable, match="place of the stored files"):
        await sweeper.sweep()
    assert await database.value("SELECT count(*) FROM stored_object WHERE damage IS NOT NULL") == 0
    shutil.rmtree(store_root)
    away.rename(store_root)
    await sweeper.sweep()
    assert await database.value("SELECT count(*) FROM stored_object WHERE damage IS NOT NULL") == 0


async def test_missing_objects_that_are_there_again_are_looked_at(sweeper, record, store_root, database):
    """Sound if their bytes are; what was put back with other bytes stays damaged, and says how."""
    for content in (b"put back", b"restored"):
        await record(content, finalised=True)
    paths = {content: store_object(store_root, content) for content in (b"put back", b"restored")}
    for path in paths.values():
        path.rename(store_root / f"{path.name}.away")
    await database.connection.execute(AN_HOUR_AGO)
    await sweeper.sweep()
    damaged = "SELECT sha256, damage FROM stored_object WHERE damage IS NOT NULL"
    assert len(await database.fetch(damaged)) == 2
    for path in paths.values():
        (store_root / f"{path.name}.away").rename(path)
    spoiled = paths[b"restored"]
    spoiled.chmod(0o600)
    spoiled.write_bytes(b"RESTORED")
    sweeper._listed_at = None
    await sweeper.sweep()
    (found,) = await database.fetch(damaged)
    assert found["sha256"] == sha256_of(b"restored")
    assert found["damage"].startswith("the SHA-256 of its bytes is")


async def test_a_store_that_is_gone_is_what_verifying_it_says(record, pool, store, store_root):
    """Not a fault of the service, nor of the files."""
    await store.own("this database")
    await record(b"on the disk")
    away = store_root.rename(store_root.with_name("away"))
    LocalStore.open(store_root)
    with pytest.raises(StoreUnusable, match="place of the stored files"):
        await verify_objects(pool, store, [(sha256_of(b"on the disk"), 11), (sha256_of(b"{}"), 2)])
    shutil.rmtree(store_root)
    away.rename(store_root)


def store_object(store_root, content: bytes) -> Path:
    (path,) = store_root.glob(f".objects/*/*/{sha256_of(content)}")
    return path


def shrink(path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"{")


async def test_one_replica_sweeps_at_a_time(sweeper, database):
    """The other one sees that and leaves it to it."""
    async with database.connection.transaction():
        await database.connection.fetchval("SELECT pg_advisory_lock(7264981003)")
        assert await sweeper.sweep() is False
        await database.connection.fetchval("SELECT pg_advisory_unlock(7264981003)")
    assert await sweeper.sweep() is True


async def test_sweeping_while_files_come_in_loses_none(sweeper, pool, catalog, keep, store, database):
    """Bytes that are claimed while they are removed are either kept, or wanted again: no receipt is wrong."""
    contents = [b"claimed %d" % number for number in range(40)]
    for content in contents:
        await keep(content)
    await sweeper.sweep()
    await database.connection.execute(AN_HOUR_AGO)
    await database.connection.execute("UPDATE stored_object SET found_at = NULL")

    async def claim(content: bytes) -> bool:
        try:
            await catalog.accept(dataset_file(content, f"f{contents.index(content)}.json"))
        except ObjectGone:
            return False
        return True

    claims = asyncio.gather(*(claim(content) for content in contents))
    await sweeper.sweep()
    for content, claimed in zip(contents, await claims, strict=True):
        kept = await store.size(sha256_of(content)) is not None
        assert kept or not claimed
    rows = await database.fetch("SELECT sha256 FROM dataset_file")
    for row in rows:
        assert await store.size(row["sha256"]) is not None
