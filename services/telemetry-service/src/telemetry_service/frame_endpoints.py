"""HTTP: the frames of a session."""

from collections.abc import Iterator
from typing import Annotated

import pyarrow as pa
from msgspec import Meta, Struct, field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from teleop_runtime.frames import FrameReader, frame_schema
from teleop_runtime.operations import Operation, read_query
from teleop_schema.errors import BadInput, NotAcceptable, NotFound

from telemetry_service.envelope import bucket_frames, envelope
from telemetry_service.frame_formats import FORMATS, encode, flatten
from telemetry_service.session_endpoints import MAX_ID, session_id_of
from telemetry_service.session_queries import SessionQueries
from telemetry_service.views import SessionDetail

BLOCK_FRAMES = 10_000


class FrameRange(Struct, forbid_unknown_fields=True):
    """Frames `from` to `to - 1`; `max_points` thins them out, keeping minima and maxima."""

    from_frame: Annotated[int, Meta(ge=0, le=MAX_ID)] = field(name="from", default=0)
    to_frame: Annotated[int, Meta(ge=0, le=MAX_ID)] | None = field(name="to", default=None)
    max_points: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None


async def get_frames(request: Request) -> Response:
    """Frames of a session as JSON, CSV, Arrow stream or Parquet, as Accept says."""
    wanted = read_query(request, FrameRange)
    media_type = choose_format(request.headers.get("accept", "*/*"))
    queries: SessionQueries = request.state.session_queries
    session = await queries.session(session_id_of(request))
    end = session.frames if wanted.to_frame is None else min(wanted.to_frame, session.frames)
    if wanted.to_frame is not None and wanted.to_frame < wanted.from_frame:
        raise BadInput(f"to is {wanted.to_frame}, before from", field="to")
    reader = await run_in_threadpool(FrameReader, request.state.database_url)
    tables = read_blocks(reader, session, wanted.from_frame, end, wanted.max_points)
    schema = flatten(
        frame_schema(len(session.state_names), len(session.action_names)).empty_table(),
        session.state_names,
        session.action_names,
    ).schema
    name = f"session-{session.id}.{FORMATS[media_type]}"
    return StreamingResponse(
        iterate_in_threadpool(encode(media_type, schema, tables)),
        media_type=media_type,
        headers={"Content-Disposition": f'inline; filename="{name}"', "Vary": "Accept"},
    )


def read_blocks(
    reader: FrameReader, session: SessionDetail, first: int, end: int, max_points: int | None
) -> Iterator[pa.Table]:
    """Flat tables of the frames, at most about BLOCK_FRAMES rows read at a time; closes the reader."""
    bucket = bucket_frames(max(end - first, 0), max_points) if max_points else 1
    step = bucket * max(1, BLOCK_FRAMES // bucket)
    with reader:
        for start in range(first, end, step):
            table = reader.read(
                session.id,
                start,
                min(start + step, end),
                state_width=len(session.state_names),
                action_width=len(session.action_names),
            )
            flat = flatten(table, session.state_names, session.action_names)
            if flat.num_rows:
                yield flat if bucket == 1 else envelope(flat, bucket)


def choose_format(accept: str) -> str:
    """The media type to answer with; raises NotAcceptable naming what there is."""
    for part in accept.split(","):
        wanted = part.split(";")[0].strip().lower()
        if wanted in ("*/*", "application/*", ""):
            return "application/json"
        if wanted == "text/*":
            return "text/csv"
        if wanted in FORMATS:
            return wanted
    raise NotAcceptable(
        f"frames can't be served as {accept}", field="Accept", hint="one of " + ", ".join(FORMATS)
    )


OPERATIONS = (
    Operation(
        "GET",
        "/sessions/{session_id:int}/frames",
        get_frames,
        query=FrameRange,
        media=tuple(FORMATS),
        errors=[NotFound, BadInput, NotAcceptable],
    ),
)
