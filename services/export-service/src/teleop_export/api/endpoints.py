"""HTTP: ask for exports, follow them, fetch them."""

import asyncio
from collections.abc import Collection
from functools import partial
from pathlib import Path

from msgspec import structs
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from teleop_runtime.serving.content import (
    FILENAME,
    RANGE_HEADERS,
    answer_content,
    attachment,
    content_answers,
)
from teleop_runtime.serving.guard import caller_of, check_sessions
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import (
    Answer,
    JsonResponse,
    Operation,
    read_body,
    read_query,
)
from teleop_runtime.store.threads import read_file
from teleop_schema.errors import (
    BackendError,
    BadInput,
    BadRange,
    BadRobotId,
    NoSpace,
    NotFound,
    SessionArchived,
    SessionNotFound,
)

from teleop_export.api.addresses import LOCATION, export_id_of
from teleop_export.api.archive import FolderTar
from teleop_export.api.pusher import check_pusher
from teleop_export.api.report_text import report_text
from teleop_export.api.told import ToldExports
from teleop_export.errors import (
    BadFps,
    CameraMissing,
    EpisodeHasGap,
    EpisodesOverlap,
    ExportFilesGone,
    ExportNotFound,
    ExportNotReady,
    FramesUnaccounted,
    NotFinite,
    NothingToExport,
    RatesDiffer,
    SessionsDiffer,
    SessionUnfinished,
    UnknownName,
    VideoDiffers,
    VideoMisplaced,
    VideoUnfinished,
)
from teleop_export.planning.order import Order, fingerprint, make_order
from teleop_export.planning.raw_order import RawOrder, make_raw_order
from teleop_export.planning.request import (
    LEROBOT,
    MAX_SESSIONS,
    ExportRequest,
    check_request,
    rows_of,
)
from teleop_export.planning.views import ExportDetail, ExportFilter, ExportPage
from teleop_export.tables.export_table import ExportTable
from teleop_export.tables.push_table import PushTable
from teleop_export.tables.session_table import SessionReader
from teleop_export.work.folders import Folders
from teleop_export.work.jobs import Jobs

# Samples that were sent before the request may be committed a moment after it.
RECHECK_AFTER_S = 1.0


async def create_export(request: Request) -> Response:
    """Have a dataset made of one or more sessions.

    The same request again answers with the same export, as long as the sessions hold the same; one that
    failed or was cancelled, or whose files are gone, is made again.
    """
    sessions: SessionReader = request.state.recorded_sessions
    exports: ExportTable = request.state.exports
    told: ToldExports = request.state.told_exports
    folders: Folders = request.state.export_folders
    jobs: Jobs = request.state.export_jobs
    pushes: PushTable = request.state.export_pushes
    wanted = await read_body(request, ExportRequest)
    check_request(wanted)
    if wanted.push_to_hub is not None:
        caller_of(request).check_need("push")
        check_pusher(request, wanted.push_to_hub, wanted.repo_id)
    wanted = await _chosen(wanted, sessions, caller_of(request).robot_ids)
    await check_sessions(request, wanted.session_ids or ())
    try:
        order = await _order(wanted, sessions)
    except FramesUnaccounted:
        # What was committed at this moment may have been seen in part.
        await asyncio.sleep(RECHECK_AFTER_S)
        order = await _order(wanted, sessions)
    await asyncio.to_thread(folders.check_space, order.size_bytes)
    name = await asyncio.to_thread(fingerprint, wanted, order)
    export_id = await exports.put(structs.replace(wanted, push_to_hub=None), order, name, jobs.enqueue)
    if await told.has_lost_files(export_id):
        await exports.renew(export_id, jobs.enqueue)
    if wanted.push_to_hub is not None:
        await pushes.put(export_id, wanted.push_to_hub, again=False)
    detail = await told.detail(export_id)
    return JsonResponse(detail, 202, headers={"Location": address_of(request, f"/exports/{export_id}")})


async def _order(wanted: ExportRequest, sessions: SessionReader) -> Order | RawOrder:
    recorded = await sessions.read(wanted.session_ids or (), which=rows_of(wanted))
    make = make_order if wanted.format == LEROBOT else make_raw_order
    return await asyncio.to_thread(make, wanted, recorded)


async def _chosen(
    wanted: ExportRequest, sessions: SessionReader, robot_ids: Collection[str] | None
) -> ExportRequest:
    """The request with the sessions of these robots that its filter finds now, which it keeps."""
    if wanted.filter is None:
        return wanted
    found = await sessions.find(
        wanted.filter, robot_ids=robot_ids, unfinished=wanted.include_unfinished, limit=MAX_SESSIONS
    )
    return structs.replace(wanted, session_ids=found)


async def list_exports(request: Request) -> Response:
    """Exports, newest first, a page at a time."""
    told: ToldExports = request.state.told_exports
    return JsonResponse(await told.page(read_query(request, ExportFilter)))


async def get_export(request: Request) -> Response:
    """One export: how far it is, what it consists of, which frames it holds and which not."""
    told: ToldExports = request.state.told_exports
    return JsonResponse(await told.detail(export_id_of(request)))


async def get_report(request: Request) -> Response:
    """The account of an export as text: what it consists of, and where every recorded frame is."""
    told: ToldExports = request.state.told_exports
    return PlainTextResponse(report_text(await told.detail(export_id_of(request))))


async def delete_export(request: Request) -> Response:
    """Cancel an export that is queued or running; remove one that has ended, with its files."""
    exports: ExportTable = request.state.exports
    folders: Folders = request.state.export_folders
    export_id = export_id_of(request)

    async def discard(name: str) -> None:
        await asyncio.to_thread(folders.discard, folders.published(export_id, name))

    await exports.remove(export_id, discard)
    return Response(status_code=204)


async def get_archive(request: Request) -> Response:
    """The dataset as an uncompressed tar stream in a folder of the dataset's name, or a range of it.

    It is the same each time.

    Its files have the time of publication, always later than that of earlier exports of that name.
    """
    folder, repo_id = await _published(request)
    name = repo_id.split("/")[1]
    archive = await asyncio.to_thread(FolderTar, folder, name)
    return await answer_content(
        request,
        archive.read,
        archive.size_bytes,
        etag=archive.etag,
        media_type="application/x-tar",
        headers=attachment(f"{name}.tar"),
    )


async def get_file(request: Request) -> Response:
    """One file of the dataset, or a range of it."""
    folder, _ = await _published(request)
    path = await asyncio.to_thread(partial(_find, folder, request.path_params["path"]))
    media = "application/json" if path.suffix == ".json" else "application/octet-stream"
    found = await asyncio.to_thread(path.stat)
    return await answer_content(
        request,
        partial(read_file, path),
        found.st_size,
        etag=f'"{found.st_mtime_ns:x}-{found.st_size:x}"',
        media_type=media,
    )


async def _published(request: Request) -> tuple[Path, str]:
    """Folder and repo_id of a finished export; raises ExportNotFound, ExportNotReady, ExportFilesGone."""
    exports: ExportTable = request.state.exports
    folders: Folders = request.state.export_folders
    export_id = export_id_of(request)
    status, name, repo_id = await exports.published(export_id)
    if status != "done":
        raise ExportNotReady(
            f"export {export_id} is {status}", hint=f"GET /exports/{export_id} has the details"
        )
    folder = folders.published(export_id, name)
    if not await asyncio.to_thread(folder.is_dir):
        raise ExportFilesGone.of(export_id)
    return folder, repo_id


def _find(folder: Path, path: str) -> Path:
    """The file at `path` below `folder`; raises NotFound for anything else, wherever it may point."""
    try:
        found = (folder / path).resolve()
        if found.is_relative_to(folder.resolve()) and found.is_file():
            return found
    except (OSError, ValueError):
        pass
    raise NotFound(f"the dataset has no file {path!r}", field="path")


# Why an export can't be made of what is there.
REFUSALS: tuple[type[BackendError], ...] = (
    BadInput,
    BadFps,
    BadRobotId,
    SessionNotFound,
    UnknownName,
    SessionUnfinished,
    FramesUnaccounted,
    SessionsDiffer,
    RatesDiffer,
    EpisodeHasGap,
    EpisodesOverlap,
    NothingToExport,
    NotFinite,
    CameraMissing,
    VideoDiffers,
    VideoUnfinished,
    VideoMisplaced,
    SessionArchived,
    NoSpace,
)

OPERATIONS = (
    Operation(
        "POST",
        "/exports",
        create_export,
        needs="operate",
        own_check=True,
        body=ExportRequest,
        example={"repo_id": "my-user/my-new-dataset", "session_ids": [7, 8]},
        answers=[Answer(202, "The export, new or as it is", ExportDetail, headers=[LOCATION])],
        errors=REFUSALS,
    ),
    Operation(
        "GET",
        "/exports",
        list_exports,
        needs="browse",
        query=ExportFilter,
        answer=ExportPage,
        errors=[BadInput],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}",
        get_export,
        needs="browse",
        answer=ExportDetail,
        errors=[ExportNotFound],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/report.txt",
        get_report,
        needs="browse",
        answers=[Answer(200, "Text", media={"text/plain": str})],
        errors=[ExportNotFound],
    ),
    Operation(
        "DELETE",
        "/exports/{export_id:int}",
        delete_export,
        needs="operate",
        status=204,
        errors=[ExportNotFound],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/archive",
        get_archive,
        needs="browse",
        headers=RANGE_HEADERS,
        answers=content_answers(["application/x-tar"], [FILENAME]),
        errors=[ExportNotFound, ExportFilesGone, ExportNotReady, BadRange],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/files/{path:path}",
        get_file,
        needs="browse",
        headers=RANGE_HEADERS,
        answers=content_answers(["application/octet-stream", "application/json"]),
        errors=[ExportNotFound, ExportFilesGone, NotFound, ExportNotReady, BadRange],
    ),
)
