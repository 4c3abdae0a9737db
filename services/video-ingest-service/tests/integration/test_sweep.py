"""What the sweep removes of the store's objects, and what it leaves alone."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest
from teleop_runtime.store import StoreUnusable
from teleop_runtime.store.local import LocalStore
from teleop_testing.datasets.files import dataset_file, encode_video, sha256_of, video_file
from teleop_testing.datasets.storing import begun
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.errors import ObjectGone
from teleop_video_ingest.files.verification import verify_objects
from teleop_video_ingest.tables.upload_table import UploadTable

AN_HOUR_AGO = "UPDATE stored_object SET stored_at = stored_at - interval '61 minutes'"


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
