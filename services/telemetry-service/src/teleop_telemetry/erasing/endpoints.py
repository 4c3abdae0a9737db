"""HTTP: erase sessions and backups of datasets for good."""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Answer, Header, JsonResponse, Operation, read_body, read_query
from teleop_schema.errors import BadInput, BadRobotId, NotFound, SessionNotFound
from teleop_schema.identifiers import MAX_ID, check_dataset_name, check_robot_id

from teleop_telemetry.erasing.erasure_table import ErasureTable
from teleop_telemetry.erasing.views import ErasurePage, ErasureView, NewErasure


class ErasureQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which page.

    cursor  `next_cursor` of the page before
    limit   erasures of a page
    """

    cursor: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


def check_wanted(wanted: NewErasure) -> None:
    """Raise BadInput unless it names either a session or a dataset, and a name that can be one."""
    if wanted.session_id is not None:
        if wanted.robot_id is not None or wanted.dataset is not None:
            raise BadInput("name a session, or a robot and its dataset, not both", field="session_id")
        return
    for field in ("robot_id", "dataset"):
        if getattr(wanted, field) is None:
            hint = 'name {"session_id": …}, or {"robot_id": …, "dataset": …}'
            raise BadInput(f"{field} is missing", field=field, hint=hint)
    check_robot_id(wanted.robot_id or "")
    check_dataset_name(wanted.dataset or "")


async def erase(request: Request) -> Response:
    """Erase a session, or the backup of a dataset, for good and everywhere.

    It can't be undone. A session goes with its frames, video, archive and notes, and with every export that
    has frames of it; a dataset with all of its versions. The same again answers with the same erasure. What
    a robot sends of it from now on is refused (410 `session_erased`, `dataset_erased`).
    """
    wanted = await read_body(request, NewErasure)
    check_wanted(wanted)
    table: ErasureTable = request.state.erasure_table
    begun = await table.ask(wanted, caller_of(request).name)
    request.state.subject = subject_of(begun)
    location = address_of(request, f"/erasures/{begun.id}")
    return JsonResponse(begun, 202, headers={"Location": location})


def subject_of(erasure: ErasureView) -> str:
    """What is erased, for the audit."""
    if erasure.dataset is None:
        return f"session {erasure.session_id} of {erasure.robot_id}"
    return f"dataset {erasure.dataset} of {erasure.robot_id}"


async def list_erasures(request: Request) -> Response:
    """Erasures, newest first, a page at a time."""
    wanted = read_query(request, ErasureQuery)
    table: ErasureTable = request.state.erasure_table
    return JsonResponse(await table.page(wanted.cursor, wanted.limit))


async def get_erasure(request: Request) -> Response:
    """One erasure: how far each service is, what it has removed, and which copies nobody here can reach."""
    table: ErasureTable = request.state.erasure_table
    return JsonResponse(await table.get(min(request.path_params["erasure_id"], MAX_ID)))


OPERATIONS = (
    Operation(
        "POST",
        "/erasures",
        erase,
        needs="administer",
        body=NewErasure,
        example={"session_id": 7},
        answers=[
            Answer(
                202, "The erasure, new or as it is", ErasureView, headers=[Header("Location", "Its address")]
            )
        ],
        errors=[BadInput, BadRobotId, SessionNotFound, NotFound],
    ),
    Operation(
        "GET",
        "/erasures",
        list_erasures,
        needs="administer",
        query=ErasureQuery,
        answer=ErasurePage,
        errors=[BadInput],
    ),
    Operation(
        "GET",
        "/erasures/{erasure_id:int}",
        get_erasure,
        needs="administer",
        answer=ErasureView,
        errors=[NotFound],
    ),
)
