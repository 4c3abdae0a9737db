"""Composition of telemetry-service."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from teleop_runtime.background import Background
from teleop_runtime.gate import access_part
from teleop_runtime.postgres.erasing import ERASE_EVERY_S, Erasing
from teleop_runtime.postgres.pool import Pool, check_database, open_pool
from teleop_runtime.serving.app import Running, ServicePart, assemble_for
from teleop_runtime.serving.openapi.document import Described
from teleop_runtime.store import Store, open_store
from teleop_runtime.trouble import FROZEN
from teleop_runtime.turns import Turns

from teleop_telemetry import storage
from teleop_telemetry.access import endpoints as access_endpoints
from teleop_telemetry.access import people_endpoints, quota_endpoints
from teleop_telemetry.access.fleet import endpoints as fleet_endpoints
from teleop_telemetry.access.fleet.table import FleetTable
from teleop_telemetry.access.limits import Attempts
from teleop_telemetry.access.people_table import PeopleTable
from teleop_telemetry.access.token_table import TokenTable
from teleop_telemetry.archive import (
    FIND_EVERY_S,
    LOOK_EVERY_S,
    RETENTION_CONNECTIONS,
    ArchiveEdits,
    ArchiveReader,
    LostFrames,
    Retention,
    SessionFiles,
    archive_address,
)
from teleop_telemetry.archive.installation import note_installation
from teleop_telemetry.archive.tombstones import READ_EVERY_S, note_erasures, read_erasures
from teleop_telemetry.audit import Audit
from teleop_telemetry.erasing import endpoints as erasing_endpoints
from teleop_telemetry.erasing.erasure_table import ErasureTable
from teleop_telemetry.erasing.share import SessionEraser
from teleop_telemetry.importing.importer import IMPORT_CONNECTIONS, Importer
from teleop_telemetry.importing.importer import LOOK_EVERY_S as IMPORT_EVERY_S
from teleop_telemetry.library import endpoints as library_endpoints
from teleop_telemetry.library import flag_endpoints
from teleop_telemetry.library.episode_edits import EpisodeEdits
from teleop_telemetry.library.reason_table import ReasonTable
from teleop_telemetry.reading import frame_endpoints, session_endpoints
from teleop_telemetry.reading.addresses import NAMES, TAGS
from teleop_telemetry.reading.frame_endpoints import MAX_FRAME_READERS, MAX_READERS_OF_ONE
from teleop_telemetry.reading.session_edits import SessionEdits
from teleop_telemetry.reading.session_queries import SessionQueries
from teleop_telemetry.receiving.batcher import LANES, Batcher
from teleop_telemetry.receiving.connections import Connections
from teleop_telemetry.receiving.log_endpoint import TELEMETRY
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.suspicion.looking import LOOK_EVERY_S as FLAGS_EVERY_S
from teleop_telemetry.suspicion.looking import Looking
from teleop_telemetry.suspicion.threshold_table import ThresholdTable
from teleop_telemetry.tables import clashes
from teleop_telemetry.tables.frame_table import FrameTable
from teleop_telemetry.tables.robot_quota import QuotaTable
from teleop_telemetry.tables.session_notes import NOTE_EVERY_S, note_all_sessions
from teleop_telemetry.tables.session_table import SessionTable

# Each kind of work has its own connections, so that readers can never hold up frames or robots.
OPENING_CONNECTIONS = 5
# Queries that are slow because of their size; more at a time would make each of them slower.
READING_CONNECTIONS = 8
# Of erasures: one holds the lock, one works.
ERASING_CONNECTIONS = 2
# A robot whose connection broke comes back sooner; if it comes later, its ended session continues.
ABANDONED_AFTER_S = 300.0
# Within a local store; no robot can have this name.
IMPORT_FOLDER = ".import"
# How often to look for such sessions.
SWEEP_EVERY_S = 60.0


def telemetry_part(
    database_url: str,
    store_url: str | None = None,
    retention_days: int = 0,
    authority: str | None = None,
    robot_quota_bytes: int | None = None,
) -> ServicePart:
    """telemetry-service as a part of a server.

    store_url       where archived sessions are kept, together with other files; None: they can't be read
    retention_days  days after a session's last frame until its frames leave the database; 0: never
    authority       PEM certificate of the authority that signs the server's; None: it has none of its own
    robot_quota_bytes
                    what the files of a robot may take that has no quota of its own; None: any amount
    """

    return ServicePart(
        name="telemetry-service",
        operations=[
            *session_endpoints.OPERATIONS,
            *library_endpoints.OPERATIONS,
            *flag_endpoints.OPERATIONS,
            *frame_endpoints.OPERATIONS,
            *access_endpoints.OPERATIONS,
            *quota_endpoints.OPERATIONS,
            *people_endpoints.OPERATIONS,
            *fleet_endpoints.OPERATIONS,
            *erasing_endpoints.OPERATIONS,
        ],
        websockets=[TELEMETRY],
        lifespan=partial(_running, database_url, store_url, retention_days, authority, robot_quota_bytes),
        described=Described(
            TAGS | library_endpoints.TAGS | flag_endpoints.TAGS,
            NAMES | fleet_endpoints.NAMES | library_endpoints.NAMES | flag_endpoints.NAMES,
        ),
    )


@asynccontextmanager
async def _running(
    database_url: str,
    store_url: str | None,
    retention_days: int,
    authority: str | None,
    robot_quota_bytes: int | None,
) -> AsyncIterator[Running]:
    async with (
        open_pool(database_url, max_size=LANES) as commits,
        open_pool(database_url, max_size=OPENING_CONNECTIONS) as openings,
        open_pool(database_url, max_size=READING_CONNECTIONS) as pool,
        AsyncExitStack() as stack,
        Background() as background,
    ):
        batcher = Batcher(FrameTable(commits))
        connections = Connections()
        audit = Audit(pool)
        store = await _archive_store(store_url)
        sessions = SessionTable(openings, OPENING_CONNECTIONS, ended=audit.note, store=store)
        background.keep("batcher", batcher.run, vital=True)
        background.keep("audit of ended sessions", audit.run)
        _look_after_sessions(background, sessions, pool)
        await _erase(background, stack, database_url, store)
        files = None if store is None else SessionFiles(store, database_url)
        edits = None if files is None else ArchiveEdits(pool, files)
        if files is not None and edits is not None:
            _look_after_store(background, pool, files, edits)
        if files is not None and retention_days:
            await _archive(background, stack, database_url, files, timedelta(days=retention_days))
        archive = None if files is None else ArchiveReader(pool, files)
        looking = Looking(pool, database_url, archive)
        background.every(FLAGS_EVERY_S, "flags of episodes", looking.once)
        if store is not None and store_url is not None:
            await _import(background, stack, database_url, store_url, store)
        edited = None if edits is None else edits.note_at_once
        yield Running(
            state={
                "batcher": batcher,
                "connections": connections,
                "session_table": sessions,
                "session_queries": SessionQueries(pool),
                "session_edits": SessionEdits(pool, edited),
                "episode_edits": EpisodeEdits(pool, edited),
                "reason_table": ReasonTable(pool),
                "threshold_table": ThresholdTable(pool),
                "library_pool": pool,
                "frame_readers": Turns(MAX_FRAME_READERS, each=MAX_READERS_OF_ONE),
                "archive": archive,
                "database_url": database_url,
                "erasure_table": ErasureTable(pool),
                **_access_state(pool, authority, robot_quota_bytes),
            },
            checks={
                "database": partial(check_database, pool),
                "commits": batcher.trouble.check,
                **background.checks(),
            },
            told={"commits of some robots": batcher.trouble.check_each},
            silent={"database": FROZEN},
            drain=connections.drain,
        )


def _access_state(pool: Pool, authority: str | None, robot_quota_bytes: int | None) -> dict[str, object]:
    """What the endpoints of tokens, people, robots and their quotas work on."""
    return {
        "token_table": TokenTable(pool),
        "quota_table": QuotaTable(pool, robot_quota_bytes),
        "authority": authority,
        "people_table": PeopleTable(pool),
        "fleet_table": FleetTable(pool),
        "joins": Attempts("robots can try to join", access_endpoints.MAX_JOINS_PER_MINUTE),
        "asks": Attempts("computers can ask to join", fleet_endpoints.MAX_ASKS_PER_MINUTE),
        "sign_ins": Attempts("people can try to sign in", people_endpoints.MAX_SIGN_INS_PER_MINUTE),
    }


def _look_after_sessions(background: Background, sessions: SessionTable, pool: Pool) -> None:
    background.every(storage.LOOK_EVERY_S, "size of the database", partial(storage.look, pool))
    background.every(clashes.LOOK_EVERY_S, "robots of one name", partial(clashes.look_for_clashes, pool))
    interrupt = partial(sessions.interrupt_abandoned, ABANDONED_AFTER_S)
    background.every(SWEEP_EVERY_S, "end of abandoned sessions", interrupt, at_once=False)


async def _erase(
    background: Background, stack: AsyncExitStack, database_url: str, store: Store | None
) -> None:
    """Erase what is to be erased, with connections of its own: it may take long."""
    pool = await stack.enter_async_context(open_pool(database_url, max_size=ERASING_CONNECTIONS))
    erasing = Erasing(pool, "telemetry-service", SessionEraser(pool, store).erase)

    async def erase() -> None:
        if store is not None:
            # Before the session goes: it stays erased for a database that is restored, too.
            await note_erasures(pool, store)
        await erasing.once()

    background.every(ERASE_EVERY_S, "erasing of sessions", erase)
    if store is not None:
        background.every(READ_EVERY_S, "notes on erasures", partial(read_erasures, pool, store))


async def _import(
    background: Background, stack: AsyncExitStack, database_url: str, store_url: str, notes: Store
) -> None:
    """Import datasets, with connections of its own: reading them takes long."""
    pool = await stack.enter_async_context(open_pool(database_url, max_size=IMPORT_CONNECTIONS))
    files = await asyncio.to_thread(open_store, store_url)
    importer = Importer(pool, files, _scratch_of(store_url), notes)
    background.every(IMPORT_EVERY_S, "imports of datasets", importer.once)


def _scratch_of(store_url: str) -> Path:
    """The folder for what is read of datasets: with the files of a local store, so that none is copied."""
    return Path(tempfile.gettempdir() if "://" in store_url else store_url).absolute() / IMPORT_FOLDER


async def _archive(
    background: Background, stack: AsyncExitStack, database_url: str, files: SessionFiles, after: timedelta
) -> None:
    """Move old sessions to the archive, with connections of its own: copying them takes long."""
    pool = await stack.enter_async_context(open_pool(database_url, max_size=RETENTION_CONNECTIONS))
    background.every(LOOK_EVERY_S, "archiving", Retention(pool, files, after).once, at_once=False)


def _look_after_store(background: Background, pool: Pool, files: SessionFiles, edits: ArchiveEdits) -> None:
    background.every(NOTE_EVERY_S, "notes on sessions", partial(note_all_sessions, pool, files.store))
    background.every(NOTE_EVERY_S, "changes of archived sessions", edits.note_all)
    background.every(
        NOTE_EVERY_S, "outcome reasons in the archive", partial(note_installation, pool, files.store)
    )
    background.every(FIND_EVERY_S, "look for lost archives", LostFrames(pool, files).find)


def create_app(settings: TelemetrySettings) -> Starlette:
    """telemetry-service as a separate server."""
    part = telemetry_part(
        settings.database_url,
        settings.store_url,
        settings.retention_days,
        settings.own_authority,
        settings.robot_quota_bytes,
    )
    return assemble_for(settings, "telemetry-service", [access_part(settings.database_url), part])


async def _archive_store(store_url: str | None) -> Store | None:
    return None if store_url is None else await asyncio.to_thread(open_store, archive_address(store_url))
