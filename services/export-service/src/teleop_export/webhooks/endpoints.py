"""HTTP: who is told what happens."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import Answer, JsonResponse, Operation, read_body, read_query
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import MAX_ID

from teleop_export.errors import TooManyWebhooks, WebhookNotFound
from teleop_export.webhooks.rules import Allowed
from teleop_export.webhooks.table import WebhookTable
from teleop_export.webhooks.views import (
    Deliveries,
    DeliveryFilter,
    DeliveryView,
    NewWebhook,
    WebhookRequest,
    Webhooks,
)

TAGS = {"webhooks": "Other programs that hear what happens, in signed requests"}
NAMES = {"webhook_id": Annotated[int, Meta(ge=0, description="Number of the webhook", examples=[1])]}


def _webhook_id_of(request: Request) -> int:
    webhook_id: int = request.path_params["webhook_id"]
    if not 1 <= webhook_id <= MAX_ID:
        raise WebhookNotFound(f"there is no webhook {webhook_id}", field="webhook_id")
    return webhook_id


async def list_webhooks(request: Request) -> Response:
    """Who is told what, and whether it arrives."""
    table: WebhookTable = request.state.webhooks
    return JsonResponse(Webhooks(webhooks=await table.all()))


async def add_webhook(request: Request) -> Response:
    """Have another program told what happens.

    The answer has the key with which it checks that requests come from here; it is shown only now.
    """
    table: WebhookTable = request.state.webhooks
    allowed: Allowed = request.state.webhooks_allowed
    wanted = await read_body(request, WebhookRequest)
    allowed.check_url(wanted.url)
    return JsonResponse(await table.add(wanted, caller_of(request).name), 201)


async def remove_webhook(request: Request) -> Response:
    """Tell a program nothing any more, not even what waits."""
    table: WebhookTable = request.state.webhooks
    await table.remove(_webhook_id_of(request))
    return Response(status_code=204)


async def list_deliveries(request: Request) -> Response:
    """The newest deliveries to a program first, each with what became of it."""
    table: WebhookTable = request.state.webhooks
    wanted = read_query(request, DeliveryFilter)
    return JsonResponse(await table.deliveries(_webhook_id_of(request), wanted))


async def test_webhook(request: Request) -> Response:
    """Send a program a delivery that tells of nothing; one that was disabled is enabled again."""
    table: WebhookTable = request.state.webhooks
    return JsonResponse(await table.test(_webhook_id_of(request)), 202)


OPERATIONS = (
    Operation("GET", "/webhooks", list_webhooks, needs="administer", answer=Webhooks),
    Operation(
        "POST",
        "/webhooks",
        add_webhook,
        needs="administer",
        body=WebhookRequest,
        example={"url": "https://hooks.example.com/lerobot", "events": ["export.done"]},
        answers=[Answer(201, "The webhook, with its key", NewWebhook)],
        errors=[BadInput, TooManyWebhooks],
    ),
    Operation(
        "DELETE",
        "/webhooks/{webhook_id:int}",
        remove_webhook,
        needs="administer",
        status=204,
        errors=[WebhookNotFound],
    ),
    Operation(
        "GET",
        "/webhooks/{webhook_id:int}/deliveries",
        list_deliveries,
        needs="administer",
        query=DeliveryFilter,
        answer=Deliveries,
        errors=[BadInput, WebhookNotFound],
    ),
    Operation(
        "POST",
        "/webhooks/{webhook_id:int}/test",
        test_webhook,
        needs="administer",
        answers=[Answer(202, "The delivery, which is sent soon", DeliveryView)],
        errors=[WebhookNotFound],
    ),
)
