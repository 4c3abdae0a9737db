"""HTTP: what is kept of a robot's files, and how much that may be."""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput, BadRobotId
from teleop_schema.identifiers import check_robot_id
from teleop_schema.words import size_text

from teleop_telemetry.tables.robot_quota import QuotaTable, RobotUsage

# As much as the setting for all robots allows.
MAX_LIMIT_BYTES = 10**18


class NewQuota(Struct, forbid_unknown_fields=True):
    """How much the video and datasets of a robot may take.

    limit_bytes  of all kept versions, what several files share counted once
    """

    limit_bytes: Annotated[int, Meta(ge=1, le=MAX_LIMIT_BYTES, examples=[200_000_000_000])]


async def show_usage(request: Request) -> Response:
    """How much is kept of the robot's video and datasets, and how much that may be."""
    table: QuotaTable = request.state.quota_table
    return JsonResponse(await table.usage(check_robot_id(request.path_params["robot_id"])))


async def set_quota(request: Request) -> Response:
    """Give a robot a quota of its own, which goes before that of all robots. What is kept already stays."""
    robot_id = check_robot_id(request.path_params["robot_id"])
    wanted = await read_body(request, NewQuota)
    table: QuotaTable = request.state.quota_table
    await table.set(robot_id, wanted.limit_bytes)
    request.state.subject = f"{robot_id}: {size_text(wanted.limit_bytes)}"
    return JsonResponse(await table.usage(robot_id))


async def remove_quota(request: Request) -> Response:
    """Let the quota of all robots be that of this one, too; it need not have had another."""
    robot_id = check_robot_id(request.path_params["robot_id"])
    table: QuotaTable = request.state.quota_table
    await table.remove(robot_id)
    request.state.subject = f"{robot_id}: as all robots"
    return JsonResponse(await table.usage(robot_id))


OPERATIONS = (
    Operation(
        "GET", "/robots/{robot_id}/usage", show_usage, needs="read", answer=RobotUsage, errors=[BadRobotId]
    ),
    Operation(
        "PUT",
        "/robots/{robot_id}/quota",
        set_quota,
        needs="administer",
        body=NewQuota,
        example={"limit_bytes": 200_000_000_000},
        answer=RobotUsage,
        errors=[BadInput, BadRobotId],
    ),
    Operation(
        "DELETE",
        "/robots/{robot_id}/quota",
        remove_quota,
        needs="administer",
        answer=RobotUsage,
        errors=[BadRobotId],
    ),
)
