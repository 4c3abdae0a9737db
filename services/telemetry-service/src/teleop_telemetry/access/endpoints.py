"""HTTP: tokens, enrolments of robots, and who changed what."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.access.codes import joining_line
from teleop_runtime.access.principal import Principal
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.guard import note
from teleop_runtime.serving.middleware.forwarded import PREFIX
from teleop_runtime.serving.operations import Answer, Header, JsonResponse, Operation, read_body, read_query
from teleop_schema.errors import (
    AuthorityNotFound,
    BadInput,
    BadRobotId,
    EnrolmentFailed,
    TokenNotFound,
    TooManyAttempts,
)
from teleop_schema.identifiers import MAX_ID, check_robot_id

from teleop_telemetry.access.limits import Attempts
from teleop_telemetry.access.token_table import TokenTable
from teleop_telemetry.access.views import (
    ChangePage,
    Enrolment,
    Joined,
    Joining,
    MadeToken,
    NewToken,
    TokenPage,
)

log = get_logger(__name__)

# Of one address, so that nobody keeps others out. More than a fleet behind it that starts at the same time
# needs. Whoever guesses from many has five tries at each code.
MAX_JOINS_PER_MINUTE = 120
PEM = "application/x-pem-file"
# Answers with secrets in them.
NOT_KEPT = {"Cache-Control": "no-store"}


class PageQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which page.

    cursor  `next_cursor` of the page before
    limit   entries of a page
    """

    cursor: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def make_token(request: Request) -> Response:
    """Make a token; the answer is the only place that ever shows it.

    A robot has at most two tokens that work: a third one revokes the oldest.
    """
    wanted = await read_body(request, NewToken)
    robot_ids = wanted.robot_ids or None
    for robot_id in (*(robot_ids or ()), *([wanted.name] if wanted.role == "robot" else ())):
        check_robot_id(robot_id, field="name" if robot_ids is None else "robot_ids")
    if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
        raise BadInput("expires_at must be in the future", field="expires_at")
    table: TokenTable = request.state.token_table
    made = await table.add(
        wanted.name, wanted.role, robot_ids, wanted.expires_at, widens=wanted.robot_ids is None
    )
    request.state.subject = f"{made.prefix}… of the {made.role} {made.name}"
    return JsonResponse(made, 201, headers=NOT_KEPT)


async def list_tokens(request: Request) -> Response:
    """Tokens, newest first, a page at a time: whose they are, and when they were last used."""
    wanted = read_query(request, PageQuery)
    table: TokenTable = request.state.token_table
    return JsonResponse(await table.page(wanted.cursor, wanted.limit))


async def revoke_token(request: Request) -> Response:
    """Revoke a token: requests with it are refused, and its connections end, within 5 s."""
    token_id: int = request.path_params["token_id"]
    if not 1 <= token_id <= MAX_ID:
        raise TokenNotFound(f"there is no token {token_id}", field="token_id")
    table: TokenTable = request.state.token_table
    await table.revoke(token_id)
    return Response(status_code=204)


async def enrol_robot(request: Request) -> Response:
    """Make the line with which a robot joins: good once, for 15 minutes and five tries."""
    robot_id = check_robot_id(request.path_params["robot_id"])
    table: TokenTable = request.state.token_table
    code, expires_at = await table.enrol(robot_id)
    tls = request.url.scheme == "https"
    host = request.headers.get("host", "localhost") + request.scope.get(PREFIX, "")
    line = joining_line(host, code, tls=tls, authority=request.state.authority)
    return JsonResponse(Enrolment(robot_id, str(code), line, expires_at), 201, headers=NOT_KEPT)


async def download_authority(request: Request) -> Response:
    """Certificate of the authority that signs this backend's, as PEM; needs no token.

    `sync-agent join` compares it with the pin in its line. People let their browsers trust it, after they
    have compared it, too.
    """
    authority: str | None = request.state.authority
    if authority is None:
        raise AuthorityNotFound("this backend has no certificate authority of its own")
    named = {"Content-Disposition": 'attachment; filename="lerobot-backend.crt"'}
    return Response(authority, media_type=PEM, headers=named)


async def join(request: Request) -> Response:
    """Swap an enrolment code for the token of the robot that it was made for; needs no token.

    A code that is wrong, used, expired or out of tries is refused in the same words.
    """
    attempts: Attempts = request.state.joins
    address = request.client.host if request.client else ""
    attempts.count(address)
    wanted = await read_body(request, Joining)
    table: TokenTable = request.state.token_table
    try:
        joined = await table.join(wanted.code)
    except EnrolmentFailed:
        log.warning("a robot could not join", address=address)
        raise
    await note(request, Principal(joined.robot_id, "robot"), "join", joined.robot_id)
    return JsonResponse(joined, headers=NOT_KEPT)


async def list_changes(request: Request) -> Response:
    """What was changed, newest first, a page at a time: by whom, when, with which token."""
    wanted = read_query(request, PageQuery)
    table: TokenTable = request.state.token_table
    return JsonResponse(await table.changes(wanted.cursor, wanted.limit))


OPERATIONS = (
    Operation(
        "POST",
        "/tokens",
        make_token,
        needs="grant",
        body=NewToken,
        example={"name": "anna", "role": "viewer"},
        answer=MadeToken,
        status=201,
        errors=[BadInput, BadRobotId],
    ),
    Operation(
        "GET",
        "/tokens",
        list_tokens,
        needs="administer",
        query=PageQuery,
        answer=TokenPage,
        errors=[BadInput],
    ),
    Operation(
        "DELETE",
        "/tokens/{token_id:int}",
        revoke_token,
        needs="grant",
        status=204,
        errors=[TokenNotFound],
    ),
    Operation(
        "POST",
        "/robots/{robot_id}/enrolments",
        enrol_robot,
        needs="grant",
        answer=Enrolment,
        status=201,
        errors=[BadRobotId],
    ),
    Operation(
        "GET",
        "/authority",
        download_authority,
        needs="nothing",
        answers=[Answer(media={PEM: str}, headers=[Header("Content-Disposition", "A name for the file")])],
        errors=[AuthorityNotFound],
    ),
    Operation(
        "POST",
        "/join",
        join,
        needs="nothing",
        body=Joining,
        example={"code": "K7QF-2M9P"},
        answer=Joined,
        errors=[BadInput, EnrolmentFailed, TooManyAttempts],
    ),
    Operation(
        "GET",
        "/audit",
        list_changes,
        needs="administer",
        query=PageQuery,
        answer=ChangePage,
        errors=[BadInput],
    ),
)
