"""HTTP: people, and how they sign in and out."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from teleop_runtime.access.principal import Principal
from teleop_runtime.access.roles import ALLOWED, NEEDS
from teleop_runtime.access.sessions import check_own_page, cookie, sign_in_link
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.guard import caller_of, note
from teleop_runtime.serving.identity import by_tls, session_shown
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Answer, JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput, BadRobotId, PersonNotFound, SignInFailed, TooManyAttempts
from teleop_schema.identifiers import check_robot_id

from teleop_telemetry.access.limits import Attempts
from teleop_telemetry.access.people_table import PeopleTable
from teleop_telemetry.access.people_views import (
    Caller,
    MadeLink,
    NewPerson,
    People,
    SignedIn,
    SigningIn,
    SignInLink,
)
from teleop_telemetry.access.sign_in_page import PAGE, POLICY

log = get_logger(__name__)

# Of one address, so that nobody keeps others out. Nobody can guess a code; each try is work for the database.
MAX_SIGN_INS_PER_MINUTE = 60
NOT_KEPT = {"Cache-Control": "no-store"}
SIGN_IN_PAGE = Answer(200, "HTML that fetches nothing from elsewhere", media={"text/html": str})


async def add_person(request: Request) -> Response:
    """Let a person sign in, or change what they may do; makes the link for it, good once, for 15 minutes.

    Another role ends the sessions that they have.
    """
    wanted = await read_body(request, NewPerson)
    robot_ids = wanted.robot_ids or None
    for robot_id in robot_ids or ():
        check_robot_id(robot_id, field="robot_ids")
    table: PeopleTable = request.state.people_table
    made, code = await table.add(wanted.name, wanted.role, robot_ids, widens=wanted.robot_ids is None)
    request.state.subject = f"the {made.role} {made.name}"
    return _link(request, made, code)


async def link_person(request: Request) -> Response:
    """Make a new link for a person; the one before it does not work any more."""
    table: PeopleTable = request.state.people_table
    made, code = await table.link(_person_of(request))
    request.state.subject = f"the {made.role} {made.name}"
    return _link(request, made, code)


async def list_people(request: Request) -> Response:
    """Whoever may sign in by a link, by name."""
    table: PeopleTable = request.state.people_table
    return JsonResponse(People(await table.people()))


async def remove_person(request: Request) -> Response:
    """Remove a person: links, sessions and tokens of that name end, and their connections, within 5 s."""
    table: PeopleTable = request.state.people_table
    await table.remove(_person_of(request))
    return Response(status_code=204)


async def show_sign_in(_request: Request) -> Response:
    """The page on which people sign in, with a link or a token."""
    headers = {**NOT_KEPT, "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(PAGE, headers=headers)


async def sign_in(request: Request) -> Response:
    """Swap a link's code, or a token, for a session, whose id the browser keeps in a cookie.

    Whatever is wrong with a code is refused in the same words.
    """
    attempts: Attempts = request.state.sign_ins
    address = request.client.host if request.client else ""
    attempts.count(address)
    wanted = await read_body(request, SigningIn)
    table: PeopleTable = request.state.people_table
    try:
        signed_in, session = await table.sign_in(wanted.code.strip())
    except SignInFailed:
        log.warning("somebody could not sign in", address=address)
        raise
    await note(request, Principal(signed_in.name, signed_in.role), "sign_in", signed_in.name)
    tls = by_tls(request)
    return JsonResponse(signed_in, headers={**NOT_KEPT, "Set-Cookie": cookie(session, tls=tls)})


async def sign_out(request: Request) -> Response:
    """End the session of this browser; there need not be one."""
    session = session_shown(request)
    if session is not None:
        check_own_page(request.method, dict(request.scope["headers"]), tls=by_tls(request))
        table: PeopleTable = request.state.people_table
        await table.sign_out(session)
    return Response(status_code=204, headers={**NOT_KEPT, "Set-Cookie": cookie("", tls=by_tls(request))})


async def show_caller(request: Request) -> Response:
    """Who calls, as the backend sees it, and what they may do."""
    caller = caller_of(request)
    robot_ids = None if caller.robot_ids is None else sorted(caller.robot_ids)
    may = [need for need in NEEDS if caller.role in ALLOWED[need]]
    if caller.how == "network":
        may.remove("grant")
    told = Caller(
        name=caller.name,
        role=caller.role,
        robot_ids=robot_ids,
        how=caller.how,
        may=may,
        expires_at=caller.expires_at,
    )
    return JsonResponse(told, headers=NOT_KEPT)


def _person_of(request: Request) -> str:
    """The name in the address; raises PersonNotFound for one that nobody can have."""
    name: str = request.path_params["person"]
    if not name.isprintable():
        raise PersonNotFound(f"there is no person {name[:100]!r}", field="person")
    return name


def _link(request: Request, made: MadeLink, code: str) -> Response:
    link = sign_in_link(address_of(request, "/sign-in"), code)
    told = SignInLink(
        name=made.name, role=made.role, robot_ids=made.robot_ids, expires_at=made.expires_at, link=link
    )
    return JsonResponse(told, 201, headers=NOT_KEPT)


OPERATIONS = (
    Operation("GET", "/me", show_caller, needs="known", answer=Caller, own_check=True),
    Operation("GET", "/sign-in", show_sign_in, needs="nothing", answers=[SIGN_IN_PAGE]),
    Operation(
        "POST",
        "/sign-in",
        sign_in,
        needs="nothing",
        body=SigningIn,
        example={"code": "gZ1bXGvQm0N2Yw7JtD3iKqfR5eUoAhVsLpC8xB9rTyE"},
        answer=SignedIn,
        errors=[BadInput, SignInFailed, TooManyAttempts],
    ),
    Operation("POST", "/sign-out", sign_out, needs="nothing", status=204),
    Operation("GET", "/people", list_people, needs="administer", answer=People),
    Operation(
        "POST",
        "/people",
        add_person,
        needs="grant",
        body=NewPerson,
        example={"name": "anna", "role": "operator"},
        answer=SignInLink,
        status=201,
        errors=[BadInput, BadRobotId],
    ),
    Operation(
        "POST",
        "/people/{person}/links",
        link_person,
        needs="grant",
        answer=SignInLink,
        status=201,
        errors=[PersonNotFound],
    ),
    Operation(
        "DELETE", "/people/{person}", remove_person, needs="grant", status=204, errors=[PersonNotFound]
    ),
)
