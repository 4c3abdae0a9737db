"""`/files/plan`: which bytes of a file the server lacks."""

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body
from teleop_runtime.store import ChecksumMismatch
from teleop_schema.errors import BadInput, BodyTooLarge, NoSpace
from teleop_schema.files import FilePlan, Planned

from teleop_video_ingest.errors import ChunkConflict, RobotMismatch, TooManyUploads, UnknownSession
from teleop_video_ingest.uploads.uploads import Uploads

# Chunk records of a file of MAX_DELTA_BYTES, or the frames of the longest video chunk.
MAX_PLAN_BYTES = 4 * 1024 * 1024


async def plan_file(request: Request) -> Response:
    """The receipt of a file that is stored, or an upload and the ranges of the file to send to it."""
    uploads: Uploads = request.state.uploads
    plan = await read_body(request, FilePlan, limit_bytes=MAX_PLAN_BYTES)
    return JsonResponse(await uploads.plan(plan))


OPERATIONS = [
    Operation(
        "POST",
        "/files/plan",
        plan_file,
        body=FilePlan,
        answer=Planned,
        errors=[
            BadInput,
            BodyTooLarge,
            ChecksumMismatch,
            ChunkConflict,
            NoSpace,
            RobotMismatch,
            TooManyUploads,
            UnknownSession,
        ],
    ),
]
