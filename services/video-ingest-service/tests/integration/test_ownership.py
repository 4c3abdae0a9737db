"""Two databases on one store would remove each other's files: the second one does not start."""

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.store import open_store
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.upkeep.ownership import claim

NEW_NAME = "UPDATE installation SET id = gen_random_uuid()"
NAME = "SELECT id::text FROM installation"


async def test_a_new_store_is_the_databases_own(pool, store, store_root):
    """It is noted there, and found again by this database, however often it starts."""
    await claim(pool, store, str(store_root))
    assert await store.owner() == await pool.fetchval(NAME)
    await claim(pool, open_store(str(store_root)), str(store_root))


async def test_another_database_is_refused(pool, store, store_root):
    """With the store's name, and what to do."""
    await claim(pool, store, str(store_root))
    owner = await store.owner()
    await pool.execute(NEW_NAME)
    with pytest.raises(CannotStart, match=f"{store_root} belong to another database.*STORE_URL"):
        await claim(pool, store, str(store_root))
    assert await store.owner() == owner


async def test_a_database_that_knows_none_of_the_files_is_refused(pool, store, store_root, keep):
    """Of a store that was used before owners were noted: an empty database can't be theirs."""
    await keep(b"content")
    with pytest.raises(CannotStart, match="does not know"):
        await claim(pool, store, str(store_root))
    assert await store.owner() is None


async def test_one_that_knows_them_goes_on(pool, store, store_root, keep):
    """Such a store, and the database that it was always used with."""
    sha256 = await keep(b"content")
    await pool.execute("INSERT INTO stored_object (sha256, size_bytes) VALUES ($1, 7)", sha256)
    await claim(pool, store, str(store_root))
    assert await store.owner() == await pool.fetchval(NAME)


async def test_a_place_that_has_lost_its_files_is_refused(pool, store, store_root):
    """A disk that is not mounted looks like this: it is not taken for a new store."""
    await pool.execute("INSERT INTO stored_object (sha256, size_bytes) VALUES (repeat('a', 64), 7)")
    with pytest.raises(CannotStart, match=f"{store_root} is empty, but .* mounted.*lerobot-backend adopt"):
        await claim(pool, store, str(store_root))
    assert await store.owner() is None


def test_the_service_ends_with_the_reason(database_url, store, store_root):
    """In one line, without a traceback."""
    (store_root / ".owner").write_text(f"{uuid4()}\n")
    done = subprocess.run(
        [sys.executable, "-m", "teleop_video_ingest"],
        env={"DATABASE_URL": database_url, "STORE_URL": str(store_root), "INGEST_PORT": "0", "PATH": ""},
        cwd=Path(store_root).parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    (reason,) = done.stderr.splitlines()
    assert reason.startswith(f"the files in {store_root} belong to another database")
