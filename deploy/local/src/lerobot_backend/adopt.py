"""`lerobot-backend adopt`: a new PostgreSQL takes over the files of one that is lost for good."""

import asyncio

from telemetry_service.archive import SessionFiles, archive_address
from teleop_runtime.database import open_pool
from teleop_runtime.store import open_store
from teleop_schema.migrate import migrate
from video_ingest_service.adopt import Adopted, adopt_at

from lerobot_backend.postgres import EmbeddedPostgres
from lerobot_backend.settings import LocalSettings

CONNECTIONS = 2


def adopt_files(settings: LocalSettings) -> Adopted:
    """Take over the files in `settings.backup_dir`; raises CannotStart if that can't be.

    No backend may be running on `settings.data_dir`.
    """
    postgres = EmbeddedPostgres(settings.data_dir)
    postgres.start()
    try:
        migrate(postgres.url())
        return asyncio.run(_adopt(postgres.url(), str(settings.backup_dir)))
    finally:
        postgres.stop()


async def _adopt(database_url: str, store_url: str) -> Adopted:
    adopted = await adopt_at(database_url, store_url)
    store = await asyncio.to_thread(open_store, archive_address(store_url))
    async with open_pool(database_url, max_size=CONNECTIONS) as pool:
        await SessionFiles(store, database_url).adopt(pool)
    return adopted
