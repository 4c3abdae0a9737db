"""Two databases on one root would remove and serve each other's datasets: the second one does not start."""

import asyncio
import subprocess
import sys

import pytest
import pytest_asyncio
from export_service.database import open_pool
from export_service.folders import Folders
from export_service.ownership import claim
from teleop_runtime.app import CannotStart

NAME = "SELECT id::text FROM installation"
NEW_NAME = "UPDATE installation SET id = gen_random_uuid()"
ENDS_S = 60


@pytest_asyncio.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture
def root(tmp_path):
    return tmp_path / "exports"


async def test_a_new_root_is_the_databases_own(pool, database, root):
    """It is noted there, and found again by this database, however often it starts."""
    await claim(pool, Folders(root))
    assert (root / ".owner").read_text() == await database.value(NAME) + "\n"
    await claim(pool, Folders(root))


@pytest.mark.parametrize("module", ["export_service", "export_service.worker"])
async def test_another_database_is_refused(pool, database, database_url, root, module):
    """By the service and by a worker alone, in one line that says what to do; nothing there changes."""
    await claim(pool, Folders(root))
    owner = (root / ".owner").read_text()
    await database.connection.execute(NEW_NAME)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", module],
        env={"DATABASE_URL": database_url, "EXPORT_ROOT": str(root), "EXPORT_PORT": "0", "PATH": ""},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=ENDS_S,
    )
    (reason,) = done.stderr.splitlines()
    assert reason.startswith(f"the files in {root} belong to another database ({owner.strip()}).")
    assert "EXPORT_ROOT" in reason
    assert done.returncode == 1
    assert (root / ".owner").read_text() == owner


async def test_a_database_that_knows_none_of_the_datasets_is_refused(pool, root):
    """Of a root that was used before owners were noted: an empty database can't be theirs."""
    (root / "export-1-0123456789ab").mkdir(parents=True)
    with pytest.raises(CannotStart, match="knows nothing of"):
        await claim(pool, Folders(root))
    assert not (root / ".owner").exists()


async def test_one_that_knows_them_goes_on(backend, record, pool):
    """Such a root, and the database that it was always used with."""
    await backend.export(await record(10))
    owner = backend.root / ".owner"
    told = owner.read_text()
    owner.unlink()
    await claim(pool, Folders(backend.root))
    assert owner.read_text() == told


def test_a_root_that_cannot_be_used_is_told(tmp_path):
    """With the setting that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"file/exports: Not a directory; .*EXPORT_ROOT"):
        Folders(tmp_path / "file" / "exports")
