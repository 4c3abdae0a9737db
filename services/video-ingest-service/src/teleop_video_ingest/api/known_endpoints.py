"""`/files/known`: which of a robot's things the server has as a whole."""

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.pool import Pool, transaction
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput, BadRobotId, BodyTooLarge
from teleop_schema.holding import MAX_HELD_CHUNKS, Held, Lacking
from teleop_schema.identifiers import check_robot_id

from teleop_video_ingest.tables.known_table import (
    installation,
    lacking_frames,
    lacking_versions,
    lacking_videos,
    overtaken_versions,
)

# Time limit for a request with thousands of files.
READ_TIMEOUT_S = 60.0
# MAX_HELD versions, cameras and streams, with long names.
MAX_HELD_BYTES = 4 * 1024 * 1024


async def tell_known(request: Request) -> Response:
    """What the server lacks of what a robot holds: it was never stored, forgotten, or is damaged.

    And which of its datasets another computer has replaced since.
    """
    held = await read_body(request, Held, limit_bytes=MAX_HELD_BYTES)
    caller_of(request).check_robot(check_robot_id(held.robot_id))
    if sum(end - first for video in held.videos for first, end in video.chunks) > MAX_HELD_CHUNKS:
        raise BadInput(f"more than {MAX_HELD_CHUNKS} chunks", field="videos", hint="ask in several requests")
    pool: Pool = request.state.ingest_pool
    async with transaction(pool, timeout_s=READ_TIMEOUT_S, snapshot=True) as connection:
        lacking = Lacking(
            installation=await installation(connection),
            versions=tuple(await lacking_versions(connection, held.robot_id, held.versions)),
            videos=tuple(await lacking_videos(connection, held.robot_id, held.videos)),
            frames=tuple(await lacking_frames(connection, held.robot_id, held.frames)),
            overtaken=tuple(await overtaken_versions(connection, held.robot_id, held.versions)),
        )
    return JsonResponse(lacking)


STREAM = "5b6d3c1e-8f1a-4a5e-9c57-6d9f0a2b7c41"
OPERATIONS = [
    Operation(
        "POST",
        "/files/known",
        tell_known,
        needs="send",
        own_check=True,
        body=Held,
        example={"robot_id": "so101_lab", "frames": [{"stream": STREAM, "frames": 3600, "ended": True}]},
        answer=Lacking,
        errors=[BadInput, BadRobotId, BodyTooLarge],
    ),
]
