"""`lerobot-backend adopt`: a new PostgreSQL takes over the files of one that is lost for good."""

import asyncio

from teleop_runtime.postgres.pool import open_pool
from teleop_runtime.store import open_store
from teleop_schema.migrate import migrate
from teleop_telemetry.archive import adopt as adopt_sessions
from teleop_telemetry.archive import archive_address
from teleop_video_ingest.adopt import adopt, begin

from teleop_backend.postgres import running
from teleop_backend.settings import LocalSettings, postgres_of

# One connection reads, the other writes.
CONNECTIONS = 2


async def adopt_files(settings: LocalSettings) -> str:
    """Take over the files in `settings.backup_dir`; returns what is back. Raises CannotStart if
    that is impossible.

    No backend may be running on `settings.data_dir`.
    """
    postgres = postgres_of(settings)
    async with running(postgres):
        await asyncio.to_thread(migrate, postgres.url())
        return await _adopt(postgres.url(), str(settings.backup_dir))


async def _adopt(database_url: str, store_url: str) -> str:
    store = await asyncio.to_thread(open_store, store_url)
    archive = await asyncio.to_thread(open_store, archive_address(store_url))
    async with open_pool(database_url, max_size=CONNECTIONS) as pool:
        await begin(pool, store, store_url)
        sessions = await adopt_sessions(pool, archive)
        # After the sessions, because video belongs to sessions.
        files = await adopt(pool, store, store_url)
    return f"{sessions}\n{files}"
