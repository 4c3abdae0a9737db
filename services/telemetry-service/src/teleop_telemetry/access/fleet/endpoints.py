"""HTTP: lines for fleets, and robots that ask to join."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.access.codes import pool_line
from teleop_runtime.access.principal import Principal
from teleop_runtime.access.rates import counted_as
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.guard import note
from teleop_runtime.serving.middleware.forwarded import PREFIX
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body
from teleop_schema.certificates.pins import pin_of
from teleop_schema.errors import (
    BadInput,
    EnrolmentFailed,
    Forbidden,
    JoinDenied,
    JoinExpired,
    JoinRequestNotFound,
    PoolExists,
    PoolFull,
    PoolNotFound,
    RobotKnown,
    TooManyAttempts,
)

from teleop_telemetry.access.fleet.table import FleetTable
from teleop_telemetry.access.fleet.views import (
    Asked,
    Asking,
    JoinRequests,
    MadePool,
    NewPool,
    Pools,
)
from teleop_telemetry.access.limits import Attempts

log = get_logger(__name__)

# Of one address: thirty computers behind it that ask every 3 s how far they are; more of them wait a little.
# Nobody can guess what lets a computer in; each try is work for the database.
MAX_ASKS_PER_MINUTE = 600
NOT_KEPT = {"Cache-Control": "no-store"}
NAMES = {
    "pool": Annotated[str, Meta(description="Name of the pool", examples=["arms"])],
    "code": Annotated[str, Meta(description="Code that the robot's computer shows", examples=["K7QF-2M9P"])],
}
SECRET = "gZ1bXGvQm0N2Yw7JtD3iKqfR5eUoAhVsLpC8xB9rTyE"  # noqa: S105


async def make_pool(request: Request) -> Response:
    """Make a line that lets the new robots of a fleet join: for images, which all have the same one.

    No robot that exists can be taken over with it.
    """
    wanted = await read_body(request, NewPool)
    if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
        raise BadInput("expires_at must be in the future", field="expires_at")
    table: FleetTable = request.state.fleet_table
    made, token = await table.add_pool(wanted)
    request.state.subject = f"the pool {made.name}"
    tls = request.url.scheme == "https"
    host = request.headers.get("host", "localhost") + request.scope.get(PREFIX, "")
    line = pool_line(host, token, tls=tls, authority=request.state.authority)
    fields = {name: getattr(made, name) for name in made.__struct_fields__}
    return JsonResponse(MadePool(**fields, line=line), 201, headers=NOT_KEPT)


async def list_pools(request: Request) -> Response:
    """The lines of fleets, without the lines themselves, and how many robots have joined with each."""
    table: FleetTable = request.state.fleet_table
    return JsonResponse(Pools(await table.pools()))


async def remove_pool(request: Request) -> Response:
    """Let no more robots join with this line. Those that have joined keep their tokens."""
    table: FleetTable = request.state.fleet_table
    name: str = request.path_params["pool"]
    await table.remove_pool(name)
    request.state.subject = f"the pool {name}"
    return Response(status_code=204)


async def ask_to_join(request: Request) -> Response:
    """Ask that a robot may join, or how far that is: needs no token, only a secret that the computer makes.

    With the line of its fleet, it gets its token at once, if that line is not for robots that wait.
    Otherwise an admin approves the code; nothing is given out before.
    """
    attempts: Attempts = request.state.asks
    address = request.client.host if request.client else ""
    attempts.count(address)
    asking = await read_body(request, Asking)
    table: FleetTable = request.state.fleet_table
    try:
        asked, by = await table.ask(asking, counted_as(address))
    except (Forbidden, TooManyAttempts) as error:
        log.warning("a robot could not join", address=address, robot_id=asking.robot_id, code=error.code)
        raise
    if asked.token is not None:
        caller = Principal(asked.robot_id, "robot")
        await note(request, caller, "ask_to_join", f"{asked.robot_id} by {by}")
    return JsonResponse(asked, headers=NOT_KEPT)


async def list_join_requests(request: Request) -> Response:
    """Robots' computers that wait until an admin approves their codes."""
    table: FleetTable = request.state.fleet_table
    authority: str | None = request.state.authority
    pin = None if authority is None else pin_of(authority)
    return JsonResponse(JoinRequests(await table.waiting(), pin))


async def approve_join(request: Request) -> Response:
    """Let the robot's computer in that shows this code: it gets its token when it asks the next time."""
    table: FleetTable = request.state.fleet_table
    approved = await table.approve(request.path_params["code"])
    request.state.subject = f"{approved.robot_id} ({approved.code})"
    return Response(status_code=204)


async def deny_join(request: Request) -> Response:
    """Refuse the robot's computer that shows this code."""
    table: FleetTable = request.state.fleet_table
    denied = await table.deny(request.path_params["code"])
    request.state.subject = f"{denied.robot_id} ({denied.code})"
    return Response(status_code=204)


OPERATIONS = (
    Operation("GET", "/join/pools", list_pools, needs="administer", answer=Pools),
    Operation(
        "POST",
        "/join/pools",
        make_pool,
        needs="grant",
        body=NewPool,
        example={"name": "arms", "prefix": "arm_", "max_robots": 50},
        answer=MadePool,
        status=201,
        errors=[BadInput, PoolExists],
    ),
    Operation("DELETE", "/join/pools/{pool}", remove_pool, needs="grant", status=204, errors=[PoolNotFound]),
    Operation("GET", "/join/requests", list_join_requests, needs="administer", answer=JoinRequests),
    Operation(
        "POST",
        "/join/requests",
        ask_to_join,
        needs="nothing",
        body=Asking,
        example={"robot_id": "arm_07", "secret": SECRET},
        answer=Asked,
        errors=[BadInput, EnrolmentFailed, RobotKnown, PoolFull, JoinDenied, JoinExpired, TooManyAttempts],
    ),
    Operation(
        "POST",
        "/join/requests/{code}/approval",
        approve_join,
        needs="grant",
        status=204,
        errors=[JoinRequestNotFound],
    ),
    Operation(
        "DELETE",
        "/join/requests/{code}",
        deny_join,
        needs="grant",
        status=204,
        errors=[JoinRequestNotFound],
    ),
)
