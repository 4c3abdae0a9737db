"""Takes the sessions of a lost database over into a new one, from the notes and archives in the store.

Archived sessions come back completely: the session, its episodes, gaps and marks, and its frames in the
archive. Of other sessions the store has only a note (`session_notes`); their frames come from robots that
still have them, or are lost with the database.
"""

from dataclasses import dataclass

import msgspec
from teleop_runtime.logs import get_logger
from teleop_runtime.ownership import holds_objects
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.store import Store
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.words import counted

from teleop_telemetry.archive.installation import INSTALLATION, take_over
from teleop_telemetry.archive.lost import FIND_TIMEOUT_S, HINT, find_lost
from teleop_telemetry.archive.session_files import ASK, FOLDER, TOLD_OF
from teleop_telemetry.archive.tombstones import read_erasures
from teleop_telemetry.tables.session_notes import SEE_ROBOT, find_sessions

log = get_logger(__name__)

# Largest JSON of one session; a long one has some thousand episodes.
TIMEOUT_S = 60.0
# An empty place has no notes.
NOTE_AGAIN = "UPDATE teleop_session SET noted_at = NULL"
TELL_AGAIN = "UPDATE installation SET noted_edits = 0"

SESSION = """
INSERT INTO teleop_session OVERRIDING SYSTEM VALUE
SELECT * FROM jsonb_populate_record(NULL::teleop_session, $1::jsonb) AS told
 WHERE NOT EXISTS (SELECT FROM erasure e WHERE e.stream_id = told.stream_id)
ON CONFLICT DO NOTHING RETURNING id
"""
BELONGINGS = {
    "episodes": "INSERT INTO episode SELECT * FROM jsonb_populate_recordset(NULL::episode, $1::jsonb)",
    "changes": """
        INSERT INTO episode_change
        SELECT * FROM jsonb_populate_recordset(NULL::episode_change, $1::jsonb)
    """,
    "session_changes": """
        INSERT INTO session_change
        SELECT * FROM jsonb_populate_recordset(NULL::session_change, $1::jsonb)
    """,
    "pauses": """
        INSERT INTO episode_pause SELECT * FROM jsonb_populate_recordset(NULL::episode_pause, $1::jsonb)
    """,
    "gaps": "INSERT INTO frame_gap SELECT * FROM jsonb_populate_recordset(NULL::frame_gap, $1::jsonb)",
    "columns": """
        INSERT INTO session_column SELECT * FROM jsonb_populate_recordset(NULL::session_column, $1::jsonb)
    """,
    "marks": "INSERT INTO session_mark SELECT * FROM jsonb_populate_recordset(NULL::session_mark, $1::jsonb)",
}
ARCHIVED = """
INSERT INTO session_archive (session_id, next_frame_index, frames, frames_sha256, frames_bytes,
                             about_sha256, account, dropped_at, edits, noted_edits)
SELECT id, next_frame_index, $2, $3, $4, $5, $6::jsonb, now(), 0, 0 FROM teleop_session WHERE id = $1
"""


class Frames(msgspec.Struct, frozen=True):
    """The file of a session's frames."""

    rows: int
    sha256: str
    size_bytes: int


class About(msgspec.Struct, frozen=True):
    """The JSON of an archived session: rows of the database as they were."""

    frames: Frames
    account: msgspec.Raw
    session: msgspec.Raw
    episodes: msgspec.Raw = msgspec.Raw(b"[]")
    changes: msgspec.Raw = msgspec.Raw(b"[]")
    session_changes: msgspec.Raw = msgspec.Raw(b"[]")
    pauses: msgspec.Raw = msgspec.Raw(b"[]")
    gaps: msgspec.Raw = msgspec.Raw(b"[]")
    columns: msgspec.Raw = msgspec.Raw(b"[]")
    marks: msgspec.Raw = msgspec.Raw(b"[]")


@dataclass
class AdoptedSessions:
    """How many sessions the database has taken over.

    archived  sessions that came back completely
    named     sessions that came back by name; frames that no robot sends are lost
    lost      sessions of this database whose archived frames the store does not have
    """

    archived: int = 0
    named: int = 0
    lost: int = 0

    def __str__(self) -> str:
        told = (
            f"back: {counted(self.archived, 'archived session')}; {self.named} more are known only by name, "
            f"number and cameras: their samples come from robots that still have them, and are lost otherwise"
        )
        if self.lost:
            told += f"\nthe archived samples of {counted(self.lost, 'session')} are missing: {HINT}"
        return told


async def adopt(pool: Pool, store: Store) -> AdoptedSessions:
    """Take over the archive of a lost database, and its sessions; may be repeated.

    One that has an archive may do so only with a place that holds none: then its own is lost.
    Raises CannotStart if the database has an archive of its own.
    """
    owner = await store.owner()
    told = None if owner is None else await store.note(INSTALLATION)
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        database, knows_files = (await connection.fetch(ASK))[0]
        if owner is None and not await holds_objects(store):
            await connection.execute(NOTE_AGAIN)
            await connection.execute(TELL_AGAIN)
        elif knows_files and owner != database:
            raise CannotStart(f"this database already has an archive: it can't take over the one in {FOLDER}")
        elif owner != database and told is not None:
            # Before the archive is this database's, whose own are then written to it.
            await take_over(connection, told)
    await store.own(database)
    # First of all: what was erased does not come back.
    await read_erasures(pool, store)
    adopted = AdoptedSessions()
    async for path, sha256 in store.list_names():
        if path.endswith(TOLD_OF):
            adopted.archived += await _bring_back(pool, store, path, sha256)
    adopted.named = await find_sessions(pool, store)
    async with connected(pool, timeout_s=FIND_TIMEOUT_S) as connection:
        adopted.lost = len(await find_lost(connection, pool, store))
    return adopted


async def _bring_back(pool: Pool, store: Store, path: str, sha256: str) -> bool:
    """Whether the archived session is new to the database."""
    content = b"".join([part async for part in store.read(sha256)])
    try:
        about = msgspec.json.decode(content, type=About)
    except DECODE_ERRORS as error:
        log.error("the archive's note on a session can't be read", path=path, error=str(error))
        return False
    if await store.size(about.frames.sha256) != about.frames.size_bytes:
        log.error("the archive lacks the frames of a session", path=path)
        return False
    async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
        session = _text(about.session)
        await connection.execute(SEE_ROBOT, session)
        session_id = await connection.fetchval(SESSION, session)
        if session_id is None:
            return False
        for kind, statement in BELONGINGS.items():
            await connection.execute(statement, _text(getattr(about, kind)))
        frames = about.frames
        told = frames.rows, frames.sha256, frames.size_bytes, sha256, _text(about.account)
        await connection.execute(ARCHIVED, session_id, *told)
    return True


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()
