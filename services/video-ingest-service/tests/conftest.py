"""video-ingest-service running in this process on a real socket, and files for it."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.postgres.pool import Pool, open_pool
from teleop_runtime.store import Store, open_store
from teleop_testing.backends.serving import client_of, serving
from teleop_testing.datasets.files import dataset_file, manifest_of
from teleop_testing.datasets.recorded import record_session
from teleop_testing.datasets.storing import stored
from teleop_video_ingest.app import create_app
from teleop_video_ingest.datasets.versions import commit_version
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.files.probe import Prober
from teleop_video_ingest.settings import IngestSettings
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.upkeep.sweep import Sweeper
from teleop_video_ingest.uploads.uploads import Uploads

MIB = 1024 * 1024
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"

Keep = Callable[[bytes], Awaitable[str]]


@pytest.fixture
def store_root(tmp_path) -> Path:
    """Folder in which this test's files are kept."""
    return tmp_path / "lerobot_backup"


@pytest.fixture
def store(store_root) -> Store:
    """The store on that folder."""
    return open_store(str(store_root))


@pytest_asyncio.fixture
async def pool(database_url) -> AsyncIterator[Pool]:
    """Connections to this test's own database."""
    async with open_pool(database_url, max_size=8) as pool:
        yield pool


@pytest_asyncio.fixture
async def prober() -> AsyncIterator[Prober]:
    """A prober with processes of its own."""
    async with Prober.running() as prober:
        yield prober


@pytest.fixture
def catalog(pool, store, prober) -> Catalog:
    """The catalog, without the service around it."""
    return Catalog(pool, store, prober)


@pytest_asyncio.fixture
async def service(database_url, store_root) -> AsyncIterator[str]:
    """Address of a video-ingest-service on this test's own database and folder."""
    settings = IngestSettings(
        database_url=database_url,
        store_url=str(store_root),
        pages="https://visualizer.example",
        _env_file=None,
    )
    async with serving(create_app(settings)) as address:
        yield address


@pytest_asyncio.fixture
async def http(service) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP client of that service."""
    async with client_of(service) as client:
        yield client


@pytest.fixture
def content() -> bytes:
    """A file that is not sent in one piece."""
    return os.urandom(3 * MIB + 17)


@pytest.fixture
def session(database_url) -> int:
    """A session of robot_A with 120 frames at 60 Hz."""
    return record_session(database_url, 120)


@pytest.fixture
def keep(store) -> Keep:
    """Puts bytes into the store as an upload would, and returns their SHA-256."""
    return partial(stored, store)


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
