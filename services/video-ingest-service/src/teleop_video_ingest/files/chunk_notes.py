"""Notes in the store about video chunks, for a new database.

A video file does not say which frame of a session saw each picture, and when. Therefore a chunk's row is
stored next to its file before its receipt is given; it takes a kilobyte for ten seconds of pictures.
"""

import zlib
from dataclasses import dataclass
from uuid import UUID

import msgspec
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.noting import note_all
from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_runtime.store import Store, read_notes
from teleop_schema.decoding import DECODE_ERRORS

from teleop_video_ingest.model.tree import video_path
from teleop_video_ingest.tables.video_table import (
    adopt_chunk,
    chunk_as_told,
    find_session,
    note_chunk_noted,
    unnoted_chunks,
)

log = get_logger(__name__)

FOLDER = "videos"
# Largest set of notes: all chunks of a camera of one session.
TIMEOUT_S = 120.0


class ChunkNote(msgspec.Struct, frozen=True):
    """The content of a note.

    stream  the session's stream, because the session may have another number in another database
    chunk   the row as JSON
    """

    stream: UUID
    robot_id: str
    camera_key: str
    chunk_index: int
    sha256: str
    chunk: msgspec.Raw


@dataclass
class AdoptedChunks:
    """The result of taking over chunks from the store.

    sessionless  chunks of sessions that the database does not know, or that belong to another robot
    lost         chunks that are not in the store any more
    """

    back: int = 0
    sessionless: int = 0
    lost: int = 0


async def note_chunk(connection: Connection, store: Store, chunk_id: int) -> None:
    """Write the note of a chunk, on a connection that sees its row."""
    told = await chunk_as_told(connection, chunk_id)
    if told is None:
        return  # the chunk was erased meanwhile
    path, content = told
    await store.set_note(f"{FOLDER}/{path}", zlib.compress(content.encode()))
    if not await note_chunk_noted(connection, chunk_id):
        await forget_note(store, path)  # the same, between the two


async def forget_note(store: Store, path: str) -> None:
    """Remove the note of the chunk that has this path."""
    await store.remove_note(f"{FOLDER}/{path}")


async def note_all_chunks(pool: Pool, store: Store) -> None:
    """Write missing notes of chunks, from a release without notes."""

    async def note(connection: Connection, chunk_id: int) -> None:
        await note_chunk(connection, store, chunk_id)

    await note_all(pool, unnoted_chunks, note, timeout_s=TIMEOUT_S)


async def adopt_chunks(pool: Pool, store: Store) -> AdoptedChunks:
    """Add the chunks for which the store has notes to the database; may be repeated."""
    adopted = AdoptedChunks()
    names = [name async for name in store.list_notes(FOLDER)]
    async for name, content in read_notes(store, names):
        try:
            told = zlib.decompress(content)
            note = msgspec.json.decode(told, type=ChunkNote)
        except (zlib.error, *DECODE_ERRORS) as error:
            log.error("a note in the store can't be read", name=name, error=str(error))
            continue
        async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
            await _adopt(connection, store, note, told.decode(), adopted)
    return adopted


async def _adopt(
    connection: Connection, store: Store, note: ChunkNote, told: str, adopted: AdoptedChunks
) -> None:
    session = await find_session(connection, note.stream)
    if session is None or session.robot_id != note.robot_id:
        adopted.sessionless += 1
        return
    path = video_path(note.robot_id, session.id, note.camera_key, note.chunk_index)
    known = await adopt_chunk(connection, session.id, path, told)
    if known is None:
        adopted.lost += 1
        log.warning("video is left out because its file is missing", path=path, sha256=note.sha256)
    elif known:
        adopted.back += 1
        await store.name(path, note.sha256)
