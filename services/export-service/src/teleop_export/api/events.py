"""HTTP: following an export as it changes, by server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from teleop_runtime.serving.operations import Answer, Header, Operation
from teleop_schema.errors import StorageUnavailable, TooManyConnections

from teleop_export.api.addresses import export_id_of
from teleop_export.api.told import ToldExports
from teleop_export.errors import ExportErased, ExportNotFound
from teleop_export.planning.views import ExportView

# Every replica looks into the one table, so it does not matter which of them makes the export.
LOOK_EVERY_S = 0.25
# Below what proxies take for a dead connection.
HEARTBEAT_S = 10.0
# What browsers are told: a server that is restarted is back by then.
RECONNECT_MS = 1000
# Of one process; further ones ask again and again instead.
MAX_FOLLOWERS = 200
# nginx would collect events until some KB have come together.
AT_ONCE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Id of the last event. A browser that comes back with it has heard everything.
LAST = "last"


class Followers:
    """How many are following exports in this process."""

    def __init__(self) -> None:
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one; raises TooManyConnections beyond MAX_FOLLOWERS."""
        if self._count >= MAX_FOLLOWERS:
            raise TooManyConnections(
                f"{MAX_FOLLOWERS} clients are already following exports",
                limit=MAX_FOLLOWERS,
                hint="GET /exports/{id} gives the same information",
            )
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


async def follow_export(request: Request) -> Response:
    """The export's state at once and whenever it changes, until it has ended; `gone` if it was removed.

    Each `state` event is what GET /exports/{id} answers, but for the report.
    """
    exports: ToldExports = request.state.told_exports
    followers: Followers = request.state.export_followers
    export_id = export_id_of(request)
    first = await exports.state(export_id)
    if ended(first) and request.headers.get("last-event-id") == LAST:
        # 204 is what tells an EventSource not to connect again.
        return Response(status_code=204)
    events = _counted(followers, _events(exports, first))
    await anext(events)
    return StreamingResponse(events, media_type="text/event-stream", headers=AT_ONCE)


def ended(export: ExportView) -> bool:
    """Whether nothing will change any more unless somebody asks for it."""
    if export.status in ("queued", "running"):
        return False
    return export.status != "done" or export.push is None or export.push.status in ("done", "failed")


async def _counted(followers: Followers, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`events`, after an empty one that tells that there was room for them."""
    with followers.one_more():
        yield b""
        async for event in events:
            yield event


async def _events(exports: ToldExports, export: ExportView) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RECONNECT_MS
    told, number, quiet_s = b"", 0, 0.0
    while True:
        content = msgspec.json.encode(export)
        if content != told:
            number += 1
            event_id = LAST if ended(export) else str(number)
            yield f"id: {event_id}\nevent: state\ndata: ".encode() + content + b"\n\n"
            told, quiet_s = content, 0.0
        elif quiet_s >= HEARTBEAT_S:
            yield b": alive\n\n"
            quiet_s = 0.0
        if ended(export):
            return
        await asyncio.sleep(LOOK_EVERY_S)
        quiet_s += LOOK_EVERY_S
        try:
            export = await exports.state(export.id)
        except (ExportNotFound, ExportErased):
            yield f"id: {LAST}\nevent: gone\ndata: {{}}\n\n".encode()
            return
        except StorageUnavailable:
            continue


Events = Annotated[
    str,
    Meta(
        description="Server-sent events: `state` with an ExportView as its data, whose `id` is `last` once "
        "the export has ended; `gone` if it was removed. A comment every 10 s shows that the line lives",
        examples=['retry: 1000\n\nid: 1\nevent: state\ndata: {"id": 3, "status": "running"}\n\n'],
        extra_json_schema={
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/ExportView"},
        },
    ),
]

OPERATIONS = (
    Operation(
        "GET",
        "/exports/{export_id:int}/events",
        follow_export,
        needs="browse",
        headers=[
            Header("Last-Event-ID", "Id of the last event that was heard; browsers send it by themselves")
        ],
        answers=[
            Answer(200, "Events, until the export has ended", media={"text/event-stream": Events}),
            Answer(204, "The export has ended, and the client has heard of it: do not connect again"),
        ],
        errors=[ExportNotFound, ExportErased, TooManyConnections],
    ),
)
