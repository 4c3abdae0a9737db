"""HTTP: ask for exports, and for the same again."""

import asyncio
from collections.abc import Collection
from typing import Literal

from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.guard import caller_of, check_sessions
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Answer, JsonResponse, Operation, read_body
from teleop_schema.errors import (
    BackendError,
    BadInput,
    BadRobotId,
    NoSpace,
    SessionArchived,
    SessionErased,
    SessionNotFound,
)

from teleop_export.api.addresses import LOCATION, export_id_of
from teleop_export.api.pusher import check_pusher
from teleop_export.api.told import ToldExports
from teleop_export.errors import (
    BadFps,
    CameraMissing,
    EpisodeDiscarded,
    EpisodeHasGap,
    EpisodeNotFound,
    EpisodesOverlap,
    ExportErased,
    ExportNotFound,
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
from teleop_export.planning.request import LEROBOT, MAX_SESSIONS, ExportRequest, check_request, rows_of
from teleop_export.planning.selection import sessions_of
from teleop_export.planning.views import ExportDetail
from teleop_export.tables.export_table import ExportTable
from teleop_export.tables.push_table import PushTable
from teleop_export.tables.session_table import SessionReader
from teleop_export.work.folders import Folders
from teleop_export.work.jobs import Jobs

# Samples that were sent before the request may be committed a moment after it.
RECHECK_AFTER_S = 1.0


class RepeatRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to repeat an export.

    labels  "then": the same dataset with the same episodes and labels, made again if its files are gone;
            "now": what was asked for then, of what is recorded and known of episodes now, which is another
            export if anything of that has changed
    """

    labels: Literal["then", "now"]


async def create_export(request: Request) -> Response:
    """Have a dataset made of episodes of one or more sessions.

    The same request again answers with the same export, as long as the sessions hold the same; one that
    failed or was cancelled, or whose files are gone, is made again.
    """
    pushes: PushTable = request.state.export_pushes
    wanted = await read_body(request, ExportRequest)
    check_request(wanted)
    if wanted.push_to_hub is not None:
        caller_of(request).check_need("push")
        check_pusher(request, wanted.push_to_hub, wanted.repo_id)
    export_id = await _ask(request, wanted)
    if wanted.push_to_hub is not None:
        await pushes.put(export_id, wanted.push_to_hub, again=False)
    return await _accepted(request, export_id)


async def repeat_export(request: Request) -> Response:
    """Have an export made again, with the labels of then or of now."""
    exports: ExportTable = request.state.exports
    export_id = export_id_of(request)
    if (await read_body(request, RepeatRequest)).labels == "now":
        export_id = await _ask(request, await exports.asked(export_id))
    else:
        await _renew(request, export_id)
    return await _accepted(request, export_id)


async def _ask(request: Request, asked: ExportRequest) -> int:
    """Number of the export that is, or becomes, what was asked for."""
    sessions: SessionReader = request.state.recorded_sessions
    exports: ExportTable = request.state.exports
    folders: Folders = request.state.export_folders
    jobs: Jobs = request.state.export_jobs
    await check_sessions(request, asked.session_ids or sessions_of(asked.episodes or ()))
    wanted = await _chosen(asked, sessions, caller_of(request).robot_ids)
    try:
        order = await _order(wanted, sessions)
    except FramesUnaccounted:
        # What was committed at this moment may have been seen in part.
        await asyncio.sleep(RECHECK_AFTER_S)
        order = await _order(wanted, sessions)
    await asyncio.to_thread(folders.check_space, order.size_bytes)
    name = await asyncio.to_thread(fingerprint, wanted, order)
    # Whether it is pushed makes no other export of it.
    asked, wanted = (structs.replace(each, push_to_hub=None) for each in (asked, wanted))
    export_id = await exports.put(asked, wanted, order, name, jobs.enqueue)
    await _renew(request, export_id)
    return export_id


async def _renew(request: Request, export_id: int) -> None:
    """Have an export made again if there is no dataset of it; raises ExportNotFound, ExportErased."""
    exports: ExportTable = request.state.exports
    told: ToldExports = request.state.told_exports
    jobs: Jobs = request.state.export_jobs
    lost = await told.has_lost_files(export_id)
    await exports.renew(export_id, jobs.enqueue, lost=lost)


async def _accepted(request: Request, export_id: int) -> Response:
    told: ToldExports = request.state.told_exports
    detail = await told.detail(export_id)
    return JsonResponse(detail, 202, headers={"Location": address_of(request, f"/exports/{export_id}")})


async def _order(wanted: ExportRequest, sessions: SessionReader) -> Order | RawOrder:
    recorded = await sessions.read(wanted.session_ids or (), which=rows_of(wanted))
    make = make_order if wanted.format == LEROBOT else make_raw_order
    return await asyncio.to_thread(make, wanted, recorded)


async def _chosen(
    wanted: ExportRequest, sessions: SessionReader, robot_ids: Collection[str] | None
) -> ExportRequest:
    """The request with the sessions of its episodes, or those of these robots that its filter finds now."""
    if wanted.episodes is not None:
        return structs.replace(wanted, session_ids=sessions_of(wanted.episodes))
    if wanted.filter is None:
        return wanted
    found = await sessions.find(
        wanted.filter,
        named=wanted.session_ids,
        robot_ids=robot_ids,
        unfinished=wanted.include_unfinished,
        limit=MAX_SESSIONS,
    )
    return structs.replace(wanted, session_ids=found)


# Why an export can't be made of what is there.
REFUSALS: tuple[type[BackendError], ...] = (
    BadInput,
    BadFps,
    BadRobotId,
    SessionNotFound,
    SessionErased,
    UnknownName,
    SessionUnfinished,
    FramesUnaccounted,
    SessionsDiffer,
    RatesDiffer,
    EpisodeNotFound,
    EpisodeDiscarded,
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

ACCEPTED = Answer(202, "The export, new or as it is", ExportDetail, headers=[LOCATION])

OPERATIONS = (
    Operation(
        "POST",
        "/exports",
        create_export,
        needs="operate",
        own_check=True,
        body=ExportRequest,
        example={"repo_id": "my-user/my-new-dataset", "session_ids": [7, 8]},
        answers=[ACCEPTED],
        errors=REFUSALS,
    ),
    Operation(
        "POST",
        "/exports/{export_id:int}/repeat",
        repeat_export,
        needs="operate",
        body=RepeatRequest,
        example={"labels": "now"},
        answers=[ACCEPTED],
        errors=[ExportNotFound, ExportErased, *REFUSALS],
    ),
)
