"""HTTP: have finished exports pushed to the Hub."""

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Answer, JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput

from teleop_export.api.addresses import LOCATION, export_id_of
from teleop_export.api.pusher import check_pusher, destinations_of
from teleop_export.api.told import ToldExports
from teleop_export.errors import ExportErased, ExportFilesGone, ExportNotFound, NotPushable, PushBusy
from teleop_export.planning.push import Destinations, PushRequest, PushView, check_push
from teleop_export.planning.request import LEROBOT
from teleop_export.tables.push_table import PushTable


async def show_destinations(request: Request) -> Response:
    """Where on the Hub the caller may push exports to."""
    return JsonResponse(destinations_of(request))


async def push_export(request: Request) -> Response:
    """Push an export to the Hub, again if it was pushed before or that failed; one not done yet, once it is.

    The export itself stays as it is, whatever becomes of the push. `push` of the export tells how far it is.
    """
    told: ToldExports = request.state.told_exports
    pushes: PushTable = request.state.export_pushes
    export_id = export_id_of(request)
    wanted = await read_body(request, PushRequest)
    check_push(wanted)
    made = await told.state(export_id)
    check_pusher(request, wanted, made.request.repo_id)
    if made.request.format != LEROBOT:
        raise NotPushable(f"export {export_id} is not a dataset but {made.request.format}")
    if await told.has_lost_files(export_id):
        raise ExportFilesGone.of(export_id)
    if not await pushes.put(export_id, wanted, again=True):
        raise PushBusy(
            f"export {export_id} is already being pushed", hint=f"GET /exports/{export_id} shows its progress"
        )
    made = await told.state(export_id)
    return JsonResponse(made.push, 202, headers={"Location": address_of(request, f"/exports/{export_id}")})


OPERATIONS = (
    Operation(
        "GET", "/exports/destinations", show_destinations, needs="push", own_check=True, answer=Destinations
    ),
    Operation(
        "POST",
        "/exports/{export_id:int}/push",
        push_export,
        needs="push",
        body=PushRequest,
        example={"private": True},
        answers=[Answer(202, "The push, which begins soon", PushView, headers=[LOCATION])],
        errors=[BadInput, ExportNotFound, ExportErased, ExportFilesGone, NotPushable, PushBusy],
    ),
)
