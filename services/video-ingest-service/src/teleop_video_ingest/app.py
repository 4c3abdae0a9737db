"""Composition of video-ingest-service."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from teleop_runtime.background import Background
from teleop_runtime.gate import access_part
from teleop_runtime.postgres.erasing import ERASE_EVERY_S, Erasing
from teleop_runtime.postgres.pool import Pool, check_database, check_room, open_pool
from teleop_runtime.serving.app import Running, ServicePart, assemble_for
from teleop_runtime.serving.guard import Bound
from teleop_runtime.serving.openapi.document import Described
from teleop_runtime.store import Store, open_store
from teleop_runtime.store.errors import UnknownUpload
from teleop_runtime.trouble import FILES_FROZEN, FROZEN
from teleop_runtime.turns import Turns

from teleop_video_ingest.api import (
    dataset_endpoints,
    hub_endpoints,
    import_endpoints,
    known_endpoints,
    multipart_endpoints,
    plan_endpoints,
    tus_endpoints,
    version_endpoints,
    video_endpoints,
)
from teleop_video_ingest.api.addresses import NAMES, TAGS
from teleop_video_ingest.datasets.imports import LOOK_EVERY_S as IMPORT_VIDEO_EVERY_S
from teleop_video_ingest.datasets.imports import ImportedVideos
from teleop_video_ingest.datasets.repairs import Repairs
from teleop_video_ingest.datasets.version_notes import note_all_versions
from teleop_video_ingest.errors import VideoNotFound
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.files.chunk_notes import note_all_chunks
from teleop_video_ingest.files.dataset_notes import note_all_datasets
from teleop_video_ingest.files.probe import Prober
from teleop_video_ingest.settings import IngestSettings
from teleop_video_ingest.tables.upload_table import UploadTable
from teleop_video_ingest.tables.video_table import robots_of_chunk
from teleop_video_ingest.upkeep import room, sweep
from teleop_video_ingest.upkeep.erasing import FileEraser
from teleop_video_ingest.upkeep.later_looks import LOOK_EVERY_S as LOOK_VIDEO_EVERY_S
from teleop_video_ingest.upkeep.later_looks import LaterLooks
from teleop_video_ingest.upkeep.ownership import claim
from teleop_video_ingest.uploads.admission import MAX_OPEN_UPLOADS
from teleop_video_ingest.uploads.quotas import LOOK_EVERY_S as LOOK_AT_QUOTAS_EVERY_S
from teleop_video_ingest.uploads.quotas import Quotas
from teleop_video_ingest.uploads.uploads import Uploads

# This many uploads can end at the same time; each needs a connection for milliseconds.
CONNECTIONS = 12
# Less than the 5 s that the chart's readiness probe waits: the answer then says what is wrong.
READY_TIMEOUT_S = 2.0
# Further verifications wait, so that the disk has time for uploads; robots take turns.
MAX_VERIFICATIONS = 2
# How often to write missing notes of what an older release has stored.
NOTE_EVERY_S = 60.0
# The same of datasets, for which all notes are listed.
NOTE_DATASETS_EVERY_S = 3600.0


OPERATIONS = (
    # Before `/files/{upload_id}`.
    *plan_endpoints.OPERATIONS,
    *known_endpoints.OPERATIONS,
    *tus_endpoints.OPERATIONS,
    *multipart_endpoints.OPERATIONS,
    *video_endpoints.OPERATIONS,
    # The longer addresses first, because a dataset's name may contain slashes.
    *version_endpoints.OPERATIONS,
    *import_endpoints.OPERATIONS,
    *hub_endpoints.OPERATIONS,
    *dataset_endpoints.OPERATIONS,
)


def ingest_part(
    database_url: str,
    store_url: str,
    *,
    max_open_uploads: int = MAX_OPEN_UPLOADS,
    robot_quota_bytes: int | None = None,
) -> ServicePart:
    """video-ingest-service as a part of a server; files are kept at `store_url` (see open_store).

    max_open_uploads   how many a robot may have
    robot_quota_bytes  what the files of a robot may take that has no quota of its own; None: any number
    """
    return ServicePart(
        name="video-ingest-service",
        operations=OPERATIONS,
        lifespan=partial(_running, database_url, store_url, max_open_uploads, robot_quota_bytes),
        for_pages=["/hub/"],
        described=Described(TAGS, NAMES),
    )


@asynccontextmanager
async def _running(
    database_url: str, store_url: str, max_open_uploads: int, robot_quota_bytes: int | None
) -> AsyncIterator[Running]:
    store = await asyncio.to_thread(open_store, store_url)
    async with (
        open_pool(database_url, max_size=CONNECTIONS) as pool,
        Prober.running() as prober,
        Background() as background,
    ):
        await claim(pool, store, store_url)
        catalog = Catalog(pool, store, prober)
        table = UploadTable(pool)
        quotas = Quotas(pool, robot_quota_bytes)
        uploads = Uploads(table, store, catalog, max_open=max_open_uploads, quotas=quotas)
        looks = LaterLooks(pool, store, prober)
        background.every(LOOK_VIDEO_EVERY_S, "looks into video", looks.look)
        imported = ImportedVideos(pool, store, prober)
        background.every(IMPORT_VIDEO_EVERY_S, "video of imported datasets", imported.once)
        background.every(LOOK_AT_QUOTAS_EVERY_S, "quotas of robots", quotas.look)
        _look_after_store(background, pool, store, uploads)
        yield Running(
            state={
                "store": store,
                "catalog": catalog,
                "uploads": uploads,
                "repairs": Repairs(pool, store, _scratch_of(store_url)),
                "ingest_pool": pool,
                "bound_upload_id": Bound(table.robots_of, UnknownUpload),
                "bound_video_id": Bound(partial(robots_of_chunk, pool), VideoNotFound.of),
                "verifications": Turns(MAX_VERIFICATIONS),
            },
            checks={
                "ingest database": partial(check_database, pool),
                "store": partial(_check_store, store),
                **background.checks(),
            },
            # Never makes the service unready: uploads must not be kept away,
            # because they are still stored.
            told={
                "room of the database": partial(check_room, pool),
                "video": looks.check,
                "checks of video": prober.check,
                "quotas": quotas.check_all,
            },
            silent={"ingest database": FROZEN, "store": FILES_FROZEN},
        )


def _look_after_store(background: Background, pool: Pool, store: Store, uploads: Uploads) -> None:
    sweeper = sweep.Sweeper(pool, store, uploads)
    background.every(sweep.SWEEP_EVERY_S, "sweep of the store", sweeper.sweep, at_once=False)
    erasing = Erasing(pool, "video-ingest-service", FileEraser(pool, store, uploads).erase)
    background.every(ERASE_EVERY_S, "erasing of files", erasing.once)
    background.every(room.LOOK_EVERY_S, "room of the store", partial(room.look, store))
    background.every(NOTE_DATASETS_EVERY_S, "notes on datasets", partial(note_all_datasets, pool, store))
    background.every(NOTE_EVERY_S, "notes on versions", partial(note_all_versions, pool, store))
    background.every(NOTE_EVERY_S, "notes on video", partial(note_all_chunks, pool, store))


async def _check_store(store: Store) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        await store.check_owner()
        # Not ready while the disk is full or read-only, because nothing could be stored.
        await store.check_room(0)


def _scratch_of(store_url: str) -> Path:
    """The folder for repairs: with the files of a local store, under a name that no robot can have."""
    return Path(tempfile.gettempdir() if "://" in store_url else store_url).absolute() / ".repair"


def create_app(settings: IngestSettings) -> Starlette:
    """video-ingest-service as a separate server."""
    part = ingest_part(
        settings.database_url,
        settings.store_url,
        max_open_uploads=settings.max_open_uploads,
        robot_quota_bytes=settings.robot_quota_bytes,
    )
    return assemble_for(settings, "video-ingest-service", [access_part(settings.database_url), part])
