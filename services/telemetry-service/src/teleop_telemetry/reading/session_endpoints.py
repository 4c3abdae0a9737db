"""HTTP: robots, sessions, episodes, ledgers."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body, read_query
from teleop_schema.errors import BadInput, BadRobotId, SessionArchived, SessionErased, SessionNotFound
from teleop_schema.identifiers import MAX_ID, RobotId, check_robot_id

from teleop_telemetry.reading.addresses import session_id_of
from teleop_telemetry.reading.session_edits import SessionEdits, SessionHistory
from teleop_telemetry.reading.session_queries import SessionQueries
from teleop_telemetry.tables.views import (
    Ledger,
    Outcome,
    RobotView,
    SessionChange,
    SessionDetail,
    SessionPage,
    Status,
)

log = get_logger(__name__)

# `$` alone would let a line break at the end pass.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$(?!\n)"


class SessionQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which sessions to list: those that all of this is true of.

    status   recording: it goes on; complete: its robot has ended it; interrupted: nothing has come for
             minutes, or its line was cut
    task     of the session, or of one of its episodes
    tag      one of its tags
    outcome  of one of its episodes
    since    it began at this time or later, RFC 3339 with its offset
    until    it began before this time, RFC 3339 with its offset
    cursor   `next_cursor` of the page before
    limit    sessions of a page
    """

    robot_id: RobotId | None = None
    status: Status | None = None
    task: str | None = None
    tag: str | None = None
    outcome: Outcome | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    cursor: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class GivenUp(Struct, forbid_unknown_fields=True):
    """Who says that nobody knows what became of missing frames; there are no accounts to tell it.

    by  a name, which the session's ledger keeps
    """

    by: Annotated[str, Meta(min_length=1, max_length=100, pattern=PRINTABLE)] | None = None


class EveryRobot(Struct, forbid_unknown_fields=True):
    """All robots are listed: there is nothing to choose."""


async def list_robots(request: Request) -> Response:
    """Every robot: online or not, its newest session, measured rate, lag."""
    read_query(request, EveryRobot)
    queries: SessionQueries = request.state.session_queries
    mine = caller_of(request).robot_ids
    robots = await queries.robots()
    return JsonResponse([robot for robot in robots if mine is None or robot.robot_id in mine])


async def list_sessions(request: Request) -> Response:
    """Sessions, newest first, a page at a time."""
    queries: SessionQueries = request.state.session_queries
    wanted = read_query(request, SessionQuery)
    if wanted.robot_id is not None:
        check_robot_id(wanted.robot_id)
    check_period(wanted.since, wanted.until)
    wanted.robot_id = caller_of(request).chosen_robot(wanted.robot_id)
    return JsonResponse(
        await queries.sessions(**{name: getattr(wanted, name) for name in wanted.__struct_fields__})
    )


async def get_session(request: Request) -> Response:
    """One session with its episodes and marks."""
    queries: SessionQueries = request.state.session_queries
    return JsonResponse(await queries.session(session_id_of(request)))


async def change_session(request: Request) -> Response:
    """Change task, tags, note or operator of a session."""
    change = await read_body(request, SessionChange)
    edits: SessionEdits = request.state.session_edits
    await edits.change_session(session_id_of(request), change, caller_of(request).name)
    return await get_session(request)


async def get_session_history(request: Request) -> Response:
    """What people changed of a session, newest first: the latest 200 changes."""
    edits: SessionEdits = request.state.session_edits
    return JsonResponse(await edits.history(session_id_of(request)))


async def delete_session(request: Request) -> Response:
    """Hide a session from lists and exports; its frames stay in the database."""
    edits: SessionEdits = request.state.session_edits
    await edits.delete_session(session_id_of(request))
    return Response(status_code=204)


async def get_ledger(request: Request) -> Response:
    """The session's account, sample by sample."""
    queries: SessionQueries = request.state.session_queries
    return JsonResponse(await queries.ledger(session_id_of(request)))


async def give_up_missing(request: Request) -> Response:
    """Name frames that nobody has accounted for as lost, so that the session can be exported.

    Answers with its ledger, whose gaps tell when that was, who says so (`by`), and from which address. Frames
    that come after all are counted as stored.
    """
    session_id = session_id_of(request)
    told = read_query(request, GivenUp)
    by, address = told.by or "an operator", _address_of(request)
    reason = f"given up on {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC by {by} from {address}"
    edits: SessionEdits = request.state.session_edits
    frames = await edits.give_up_missing(session_id, f"{reason}: what became of them is unknown")
    log.warning("missing frames were given up", session=session_id, frames=frames, by=by, address=address)
    queries: SessionQueries = request.state.session_queries
    return JsonResponse(await queries.ledger(session_id))


def _address_of(request: Request) -> str:
    """The machine that the request comes from."""
    return request.client.host if request.client else "a socket"


def check_period(since: datetime | None, until: datetime | None) -> None:
    """Raise BadInput unless `until` is later, and UTC's calendar has both: years 1 and 9999 of some time
    zones it has not."""
    for name, time in (("since", since), ("until", until)):
        try:
            if time is not None:
                time.astimezone(UTC)
        except OverflowError as error:
            raise BadInput(f"{name} is {time}: {error}", field=name) from error
    if since and until and until <= since:
        raise BadInput("until must be later than since", field="until")


OPERATIONS = (
    Operation(
        "GET",
        "/robots",
        list_robots,
        needs="read",
        own_check=True,
        query=EveryRobot,
        answer=list[RobotView],
        errors=[BadInput],
    ),
    Operation(
        "GET",
        "/sessions",
        list_sessions,
        needs="read",
        own_check=True,
        query=SessionQuery,
        answer=SessionPage,
        errors=[BadInput, BadRobotId],
    ),
    Operation(
        "GET",
        "/sessions/{session_id:int}",
        get_session,
        needs="read",
        answer=SessionDetail,
        errors=[SessionNotFound, SessionErased],
    ),
    Operation(
        "PATCH",
        "/sessions/{session_id:int}",
        change_session,
        needs="operate",
        body=SessionChange,
        example={"task": "Pick the red cube", "tags": ["kitchen"], "note": None, "operator": "kim"},
        answer=SessionDetail,
        errors=[SessionNotFound, SessionErased, BadInput],
    ),
    Operation(
        "DELETE",
        "/sessions/{session_id:int}",
        delete_session,
        needs="operate",
        status=204,
        errors=[SessionNotFound, SessionErased],
    ),
    Operation(
        "GET",
        "/sessions/{session_id:int}/history",
        get_session_history,
        needs="read",
        answer=list[SessionHistory],
        errors=[SessionNotFound, SessionErased],
    ),
    Operation(
        "GET",
        "/sessions/{session_id:int}/ledger",
        get_ledger,
        needs="read",
        answer=Ledger,
        errors=[SessionNotFound, SessionErased],
    ),
    Operation(
        "POST",
        "/sessions/{session_id:int}/give-up-missing",
        give_up_missing,
        needs="operate",
        query=GivenUp,
        answer=Ledger,
        errors=[SessionNotFound, SessionErased, SessionArchived, BadInput],
    ),
)
