"""HTTP: the frames of a session."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from threading import Event
from typing import Annotated

import pyarrow as pa
from msgspec import Meta, Struct, field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from teleop_runtime.postgres.frames import FrameReader, in_blocks
from teleop_runtime.serving.guard import counted_caller
from teleop_runtime.serving.operations import JSON, Answer, Bytes, Header, Operation, read_query
from teleop_runtime.turns import Turns
from teleop_schema.errors import (
    ArchiveLost,
    BadInput,
    NotAcceptable,
    SessionArchived,
    SessionErased,
    SessionNotFound,
)
from teleop_schema.identifiers import MAX_ID

from teleop_telemetry.archive import FOLDER, ArchivedFrames, ArchiveReader, names_of
from teleop_telemetry.frames.envelope import bucket_frames, envelope
from teleop_telemetry.frames.formats import FORMATS, choose_format, encode, flat_schema, flatten
from teleop_telemetry.reading.addresses import session_id_of
from teleop_telemetry.reading.session_queries import SessionQueries
from teleop_telemetry.tables.views import Frames, SessionDetail

# Each reader has its own connection; further readers wait, so
# that they never use up the database's connections.
MAX_FRAME_READERS = 4
# Of one caller, whose clients may read as slowly as they like.
MAX_READERS_OF_ONE = 2
# Values read at a time: 20,000 frames of twelve joints per block.
BLOCK_VALUES = 240_000


class FrameRange(Struct, forbid_unknown_fields=True):
    """Frames `from` to `to - 1`.

    from        index of the first frame
    to          one past the index of the last frame; by default, all that there are
    max_points  at most so many rows; if there are more frames, two rows stand for each stretch of them: with
                index and time of its first and last frame, and the least and greatest value of each column
    """

    from_frame: Annotated[int, Meta(ge=0, le=MAX_ID)] = field(name="from", default=0)
    to_frame: Annotated[int, Meta(ge=0, le=MAX_ID)] | None = field(name="to", default=None)
    max_points: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None


# Frames are in the database, or in a file of the archive; both are read in the same way.
type FrameSource = FrameReader | ArchivedFrames
# A context with a reader, whose connection or file it closes at its end.
type Open = Callable[[], AbstractAsyncContextManager[FrameSource]]


async def get_frames(request: Request) -> Response:
    """Frames of a session as JSON, CSV, Arrow stream or Parquet, as Accept says; archived ones, too."""
    wanted = read_query(request, FrameRange)
    media_type = choose_format(request.headers.get("accept", "*/*"))
    if media_type is None:
        raise NotAcceptable(
            f"frames can't be served as {request.headers['accept']}",
            field="Accept",
            hint="one of " + ", ".join(FORMATS),
        )
    if wanted.to_frame is not None and wanted.to_frame < wanted.from_frame:
        raise BadInput(f"to ({wanted.to_frame}) is less than from", field="to")
    queries: SessionQueries = request.state.session_queries
    readers: Turns = request.state.frame_readers
    session = await queries.session(session_id_of(request))
    name = f"session-{session.id}.{FORMATS[media_type]}"
    return FrameFile(
        session,
        wanted,
        place=readers.place(counted_caller(request)),
        opening=_place_of(request, session),
        media_type=media_type,
        headers={"Content-Disposition": f'inline; filename="{name}"', "Vary": "Accept"},
    )


def _place_of(request: Request, session: SessionDetail) -> Open:
    """A reader for the session's frames; raises SessionArchived if the archive can't be read."""
    if session.archived_at is None:
        return partial(_in_database, request.state.database_url)
    archive: ArchiveReader | None = request.state.archive
    if archive is None:
        raise SessionArchived(
            f"the frames of session {session.id} were archived: "
            f"{' and '.join(names_of(session.robot_id, session.id))} below {FOLDER} of the file store",
            hint="with STORE_URL set, telemetry-service reads them from there",
        )
    return partial(archive.frames, session.id)


@asynccontextmanager
async def _in_database(database_url: str) -> AsyncIterator[FrameSource]:
    reader = await run_in_threadpool(FrameReader, database_url)
    try:
        yield reader
    finally:
        reader.close()


class FrameFile(StreamingResponse):
    """The file of the wanted frames; its database connection is closed however the client leaves."""

    def __init__(
        self,
        session: SessionDetail,
        wanted: FrameRange,
        *,
        place: AbstractAsyncContextManager[None],
        opening: Open,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__((), media_type=media_type, headers=headers)
        self._session = session
        self._wanted = wanted
        self._place = place
        self._opening = opening
        self._format = media_type
        self._gone = Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._place, self._opening() as reader:
            session = self._session
            tables = thin_out(reader, session, self._wanted, self._gone)
            schema = flat_schema(session.state_names, session.action_names, session.columns)
            self.body_iterator = iterate_in_threadpool(encode(self._format, schema, tables))
            await super().__call__(scope, receive, send)

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Also stops the reading thread, which can't be cancelled."""
        await super().listen_for_disconnect(receive)
        self._gone.set()


def thin_out(
    reader: FrameSource, session: SessionDetail, wanted: FrameRange, gone: Event
) -> Iterator[pa.Table]:
    """Flat tables of the requested frames; an envelope of them if there are too many.

    gone  set when nobody wants them any more
    """
    first = wanted.from_frame
    end = session.frames if wanted.to_frame is None else min(wanted.to_frame, session.frames)
    joints = len(session.state_names) + len(session.action_names)
    beyond = sum(column.values for column in session.columns)
    block = max(2, BLOCK_VALUES // (1 + joints + beyond))
    # Gaps are claims of any length, and missing frames are no reason to thin out existing ones.
    frames = min(max(end - first, 0), session.frames - session.missing)
    bucket = bucket_frames(frames, wanted.max_points) if wanted.max_points else 1
    if bucket == 1:
        yield from read_flat(reader, session, first, end, block, gone)
    elif bucket <= block:
        for table in read_flat(reader, session, first, end, block - block % bucket, gone):
            yield envelope(table, bucket)
    else:
        yield from join_envelopes(read_flat(reader, session, first, end, block, gone), bucket)


def join_envelopes(tables: Iterable[pa.Table], bucket: int) -> Iterator[pa.Table]:
    """Envelopes of `bucket` rows each, if a bucket is longer than a table."""
    edges: list[pa.Table] = []
    room = bucket
    for table in tables:
        begin = 0
        while begin < table.num_rows:
            part = table.slice(begin, room)
            # The envelope of envelopes is the envelope of all.
            edges.append(envelope(part, part.num_rows))
            begin += part.num_rows
            room -= part.num_rows
            if not room:
                yield _joined(edges)
                edges, room = [], bucket
    if edges:
        yield _joined(edges)


def _joined(edges: Sequence[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(edges).combine_chunks()
    return envelope(joined, joined.num_rows)


def read_flat(
    reader: FrameSource, session: SessionDetail, first: int, end: int, block: int, gone: Event
) -> Iterator[pa.Table]:
    """Flat tables of frames `first` to `end - 1`, `block` of those that there are at a time, until `gone`."""
    state_names, action_names = session.state_names, session.action_names
    read = partial(
        reader.read, session.id, end=end, state_width=len(state_names), action_width=len(action_names)
    )
    for table in in_blocks(read, first, end, block):
        yield flatten(table, state_names, action_names, session.columns)
        if gone.is_set():
            return


OPERATIONS = (
    Operation(
        "GET",
        "/sessions/{session_id:int}/frames",
        get_frames,
        needs="read",
        query=FrameRange,
        headers=[Header("Accept", f"The format of the frames: {', '.join(FORMATS)}; by default JSON")],
        answers=[
            Answer(
                200,
                "The frames, ascending. In all but JSON a row has the columns frame_index, timestamp, "
                "observation.<name>, action.<name>, columns.<name>, observation_age_us and extra",
                Frames,
                {media: str if media == "text/csv" else Bytes for media in FORMATS if media != JSON},
                [Header("Content-Disposition", "A name for the file")],
            )
        ],
        errors=[SessionNotFound, SessionErased, ArchiveLost, BadInput, NotAcceptable, SessionArchived],
    ),
)
