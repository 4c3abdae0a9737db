"""HTTP: the videos of a session, and their bytes."""

import asyncio
from functools import partial
from typing import Annotated, Any

import asyncpg
from msgspec import Meta, Struct, convert
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.erasing import lacking_session
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.serving.content import RANGE_HEADERS, content_answers
from teleop_runtime.serving.operations import JsonResponse, Operation, read_query
from teleop_runtime.store import Store
from teleop_schema.errors import BadInput, BadRange, SessionErased, SessionNotFound
from teleop_schema.identifiers import MAX_ID

from teleop_video_ingest.api.content import BINARY, answer_object
from teleop_video_ingest.errors import Damaged, FramesTold, VideoNotFound
from teleop_video_ingest.files.removing import remove_video
from teleop_video_ingest.model.coverage import cover
from teleop_video_ingest.model.views import CameraCoverage, SessionVideos, VideoDetail, VideoView
from teleop_video_ingest.tables.object_table import damage_of
from teleop_video_ingest.tables.video_table import (
    cameras_of,
    chunks_of_camera,
    dropped_of,
    find_session,
    get_chunk,
    list_chunks,
)

# Time limit for the chunks of a session of hours, from a busy database.
READ_TIMEOUT_S = 60.0
VIDEO = "video/mp4"


class VideoFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which chunks of a session to list.

    camera_key  those of this camera
    cursor      `next_cursor` of the page before
    limit       chunks of a page
    """

    camera_key: str | None = None
    cursor: Annotated[int, Meta(ge=0, le=MAX_ID)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


async def list_videos(request: Request) -> Response:
    """The video chunks of a session, and how much of it each camera covers."""
    wanted = read_query(request, VideoFilter)
    pool: Pool = request.state.ingest_pool
    session_id: int = request.path_params["session_id"]
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        session = await find_session(connection, session_id)
        if session is None or session.hidden:
            raise await lacking_session(connection, session_id)
        rows = await list_chunks(connection, session_id, wanted.camera_key, wanted.cursor, wanted.limit + 1)
        cameras = {*session.cameras, *await cameras_of(connection, session_id)}
        if wanted.camera_key is not None:
            cameras &= {wanted.camera_key}
        coverage: list[CameraCoverage] = []
        for camera in sorted(cameras):
            chunks = await chunks_of_camera(connection, session, camera)
            coverage.append(await asyncio.to_thread(partial(cover, camera, chunks, frames=session.frames)))
    videos = [_view(row, VideoView) for row in rows[: wanted.limit]]
    return JsonResponse(
        SessionVideos(
            session_id=session.id,
            robot_id=session.robot_id,
            frames=session.frames,
            cameras=coverage,
            videos=videos,
            next_cursor=videos[-1].id if len(rows) > wanted.limit else None,
        )
    )


async def get_video(request: Request) -> Response:
    """One chunk, with the frame and the capture time of each picture."""
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        row = await get_chunk(connection, request.path_params["video_id"])
    return JsonResponse(_view(row, VideoDetail))


async def get_video_content(request: Request) -> Response:
    """The chunk's bytes, or a range of them; a quarantined chunk is not served as video."""
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        row = await get_chunk(connection, request.path_params["video_id"])
        damage = await damage_of(connection, row["sha256"])
    if damage is not None:
        raise Damaged(
            f"{row['file_path']} is damaged on the server: {damage}",
            hint="a robot that still has it sends it again",
        )
    media_type = VIDEO if row["quarantine"] is None else BINARY
    return await answer_object(request, row["sha256"], row["size_bytes"], media_type)


async def delete_video(request: Request) -> Response:
    """Remove a chunk whose sender did not name the frame of each picture; then it can be sent again."""
    pool: Pool = request.state.ingest_pool
    store: Store = request.state.store
    await remove_video(pool, store, request.path_params["video_id"])
    return Response(status_code=204)


def _view[View: VideoView](row: asyncpg.Record, kind: type[View]) -> View:
    values: dict[str, Any] = {
        **dict(row),
        "dropped": dropped_of(row),
        "quarantine": row["unusable"],
        "content": f"/videos/{row['id']}/content",
    }
    return convert(values, kind)


OPERATIONS = (
    Operation(
        "GET",
        "/sessions/{session_id:int}/videos",
        list_videos,
        needs="read",
        query=VideoFilter,
        answer=SessionVideos,
        errors=[SessionNotFound, SessionErased, BadInput],
    ),
    Operation(
        "DELETE",
        "/videos/{video_id:int}",
        delete_video,
        needs="administer",
        status=204,
        errors=[VideoNotFound, FramesTold],
    ),
    Operation(
        "GET", "/videos/{video_id:int}", get_video, needs="read", answer=VideoDetail, errors=[VideoNotFound]
    ),
    Operation(
        "GET",
        "/videos/{video_id:int}/content",
        get_video_content,
        needs="read",
        headers=RANGE_HEADERS,
        answers=content_answers([VIDEO, BINARY]),
        errors=[VideoNotFound, BadRange, Damaged],
    ),
)
