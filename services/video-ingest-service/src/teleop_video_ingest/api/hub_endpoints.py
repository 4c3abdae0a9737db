"""HTTP: datasets at the addresses that LeRobot's stock dataset visualizer reads on the Hub, read-only.

Started with `DATASET_URL=http://<backend>/hub`, the visualizer asks for `<robot>/<name>/resolve/main/<path>`.
It accepts only one part as the name, so `my-user--my-ds` stands for `my-user/my-ds`. Pages of other sites
(LEROBOT_BACKEND_PAGES) may read only these addresses.
"""

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.pool import Connection, Pool, connected
from teleop_runtime.serving import problems
from teleop_runtime.serving.content import RANGE_HEADERS, content_answers
from teleop_runtime.serving.operations import Answer, Header, Operation
from teleop_schema.errors import BackendError, BadInput, BadRange, BadRobotId
from teleop_schema.identifiers import check_dataset_name, check_robot_id, stored_path

from teleop_video_ingest.api.content import BINARY, MEDIA_TYPES, answer_object, media_type_of
from teleop_video_ingest.errors import DatasetNotFound, FileNotFound
from teleop_video_ingest.tables.state_table import DatasetState, find_state, get_file

# A page of it.
READ_TIMEOUT_S = 30.0
SLASH = "--"
FOR_PAGES = {
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
}
PREFLIGHT = {
    **FOR_PAGES,
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, If-None-Match, If-Range, Range",
    "Access-Control-Max-Age": "3600",
}


async def read_hub_file(request: Request) -> Response:
    """One file of the newest version that is finalised or repaired, or else of the newest; with ranges."""
    try:
        return await _answer(request)
    except BackendError as error:
        response = await problems.answer_backend_error(request, error)
        response.headers.update(FOR_PAGES)
        return response


async def allow_hub(_request: Request) -> Response:
    """Answers a browser that asks whether a page of another site may read here."""
    return Response(status_code=204, headers=PREFLIGHT)


async def _answer(request: Request) -> Response:
    robot_id = check_robot_id(request.path_params["robot_id"])
    name = check_dataset_name(request.path_params["name"])
    path = stored_path(request.path_params["path"])
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        file = await get_file(connection, await _find(connection, robot_id, name), path)
    return await answer_object(request, file.sha256, file.size_bytes, media_type_of(path), headers=FOR_PAGES)


async def _find(connection: Connection, robot_id: str, name: str) -> DatasetState:
    try:
        return await find_state(connection, robot_id, name, None)
    except DatasetNotFound:
        if SLASH not in name:
            raise
        return await find_state(connection, robot_id, check_dataset_name(name.replace(SLASH, "/")), None)


PAGES_HEADERS = [Header(name, f"`{value}`", required=True) for name, value in FOR_PAGES.items()]
ADDRESS = "/hub/{robot_id}/{name:path}/resolve/main/{path:path}"
OPERATIONS = (
    Operation(
        "GET",
        ADDRESS,
        read_hub_file,
        needs="read",
        headers=RANGE_HEADERS,
        answers=content_answers({*MEDIA_TYPES.values(), BINARY}, PAGES_HEADERS),
        errors=[BadInput, BadRobotId, DatasetNotFound, FileNotFound, BadRange],
    ),
    Operation(
        "OPTIONS",
        ADDRESS,
        allow_hub,
        needs="nothing",
        answers=[
            Answer(204, "It may", headers=[Header(name, f"`{value}`") for name, value in PREFLIGHT.items()])
        ],
    ),
)
