"""HTTP: the library of episodes, and what people judge of them."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.pool import Pool
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body, read_query
from teleop_schema.errors import (
    BadInput,
    BadRobotId,
    Conflict,
    EpisodeChanged,
    NotFound,
    NothingToUndo,
    SessionErased,
    SessionNotFound,
)
from teleop_schema.identifiers import check_robot_id

from teleop_telemetry.library.episode_edits import EpisodeEdits, EpisodeHistory, Undo
from teleop_telemetry.library.episode_list import EpisodePage, EpisodeQuery, list_episodes
from teleop_telemetry.library.reason_table import MAX_REASONS, NewReason, OutcomeReason, ReasonTable
from teleop_telemetry.reading.addresses import session_id_of
from teleop_telemetry.reading.session_endpoints import check_period
from teleop_telemetry.tables.views import EpisodeChange, EpisodeView

# As people type it, in addresses and in datasets.
ReasonName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9_]{1,64}$(?!\n)", description="Name of the reason", examples=["grasp_missed"]),
]
NAMES = {"reason": ReasonName}
TAGS = {
    "episodes": "All episodes, whichever session they are of",
    "outcome-reasons": "Why an episode has its outcome: what there is to choose from",
}
EPISODE = "/sessions/{session_id:int}/episodes/{episode_index:int}"


async def find_episodes(request: Request) -> Response:
    """Episodes of all sessions, newest first, a page at a time."""
    wanted = read_query(request, EpisodeQuery)
    if wanted.robot_id is not None:
        check_robot_id(wanted.robot_id)
    check_period(wanted.since, wanted.until)
    wanted.robot_id = caller_of(request).chosen_robot(wanted.robot_id)
    pool: Pool = request.state.library_pool
    return JsonResponse(await list_episodes(pool, wanted))


async def get_episode(request: Request) -> Response:
    """One episode."""
    edits: EpisodeEdits = request.state.episode_edits
    return JsonResponse(await edits.episode(session_id_of(request), index_of(request)))


async def change_episode(request: Request) -> Response:
    """Judge an episode, or change its task or its bounds.

    Who changed what is kept (`…/history`), and can be taken back (`…/undo`).
    """
    change = await read_body(request, EpisodeChange)
    edits: EpisodeEdits = request.state.episode_edits
    session_id, episode_index = session_id_of(request), index_of(request)
    return JsonResponse(await edits.change(session_id, episode_index, change, caller_of(request).name))


async def undo_change(request: Request) -> Response:
    """Take back the newest change of an episode that is not taken back yet; again: the one before it."""
    undo = await read_body(request, Undo)
    edits: EpisodeEdits = request.state.episode_edits
    session_id, episode_index = session_id_of(request), index_of(request)
    return JsonResponse(await edits.undo(session_id, episode_index, undo, caller_of(request).name))


async def get_history(request: Request) -> Response:
    """What people changed of an episode, newest first: the latest 200 changes."""
    edits: EpisodeEdits = request.state.episode_edits
    return JsonResponse(await edits.history(session_id_of(request), index_of(request)))


async def list_reasons(request: Request) -> Response:
    """Why an episode may have its outcome, by outcome and name."""
    table: ReasonTable = request.state.reason_table
    return JsonResponse(await table.all())


async def put_reason(request: Request) -> Response:
    """Add a reason, or change it. Episodes that have it keep it."""
    name = _reason_of(request)
    reason = await read_body(request, NewReason)
    table: ReasonTable = request.state.reason_table
    if not await table.put(name, reason):
        raise Conflict(f"there are {MAX_REASONS} reasons already", hint="remove one that nobody chooses")
    request.state.subject = f"{name}: {reason.outcome}"
    return JsonResponse(
        OutcomeReason(name=name, outcome=reason.outcome, meaning=reason.meaning, restorable=reason.restorable)
    )


async def remove_reason(request: Request) -> Response:
    """Take a reason out of what there is to choose from. Episodes that have it keep it."""
    name = _reason_of(request)
    table: ReasonTable = request.state.reason_table
    if not await table.remove(name):
        raise NotFound(f"there is no reason {name!r}", field="reason")
    return Response(status_code=204)


def index_of(request: Request) -> int:
    """The episode's number in the address; raises NotFound."""
    index: int = request.path_params["episode_index"]
    if index >= 2**31:
        raise NotFound(f"there is no episode {index}", field="episode_index")
    return index


def _reason_of(request: Request) -> str:
    try:
        return msgspec.convert(request.path_params["reason"], ReasonName)
    except msgspec.ValidationError as error:
        raise BadInput("a reason's name is 1 to 64 of a-z 0-9 _", field="reason") from error


OPERATIONS = (
    Operation(
        "GET",
        "/episodes",
        find_episodes,
        needs="read",
        own_check=True,
        query=EpisodeQuery,
        answer=EpisodePage,
        errors=[BadInput, BadRobotId],
    ),
    Operation(
        "GET",
        EPISODE,
        get_episode,
        needs="read",
        answer=EpisodeView,
        errors=[SessionNotFound, SessionErased, NotFound],
    ),
    Operation(
        "PATCH",
        EPISODE,
        change_episode,
        needs="operate",
        body=EpisodeChange,
        example={"outcome": "failure", "reason": "dropped", "quality": 2, "note": "the cube slipped"},
        answer=EpisodeView,
        errors=[SessionNotFound, SessionErased, NotFound, BadInput, EpisodeChanged],
    ),
    Operation(
        "POST",
        f"{EPISODE}/undo",
        undo_change,
        needs="operate",
        body=Undo,
        example={"revision": 1},
        answer=EpisodeView,
        errors=[SessionNotFound, SessionErased, NotFound, BadInput, EpisodeChanged, NothingToUndo],
    ),
    Operation(
        "GET",
        f"{EPISODE}/history",
        get_history,
        needs="read",
        answer=list[EpisodeHistory],
        errors=[SessionNotFound, SessionErased, NotFound],
    ),
    # About no robot: whoever may judge those of one chooses from them, too.
    Operation(
        "GET",
        "/outcome-reasons",
        list_reasons,
        needs="read",
        own_check=True,
        answer=list[OutcomeReason],
    ),
    Operation(
        "PUT",
        "/outcome-reasons/{reason}",
        put_reason,
        needs="administer",
        body=NewReason,
        example={"outcome": "failure", "meaning": "The cable was in the way", "restorable": True},
        answer=OutcomeReason,
        errors=[BadInput, Conflict],
    ),
    Operation(
        "DELETE",
        "/outcome-reasons/{reason}",
        remove_reason,
        needs="administer",
        status=204,
        errors=[BadInput, NotFound],
    ),
)
