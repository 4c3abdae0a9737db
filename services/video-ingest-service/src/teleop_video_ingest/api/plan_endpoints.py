"""`/files/plan`: which bytes of a file the server lacks."""

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body
from teleop_runtime.store import UploadBusy
from teleop_schema.errors import BodyTooLarge
from teleop_schema.files import FilePlan, Planned

from teleop_video_ingest.errors import QuotaReached, TooManyUploads
from teleop_video_ingest.files.catalog import ACCEPT_ERRORS
from teleop_video_ingest.uploads.uploads import Uploads

# Chunk records of a file of MAX_DELTA_BYTES, or the frames of the longest video chunk.
MAX_PLAN_BYTES = 4 * 1024 * 1024


async def plan_file(request: Request) -> Response:
    """The receipt of a file that is stored, or an upload and the ranges of the file to send to it."""
    uploads: Uploads = request.state.uploads
    plan = await read_body(request, FilePlan, limit_bytes=MAX_PLAN_BYTES)
    caller = caller_of(request)
    caller.check_robot(plan.file.robot_id)
    return JsonResponse(await uploads.plan(plan, caller.robot_ids))


EXAMPLE = {
    "kind": "dataset",
    "robot_id": "so101_lab",
    "dataset": "my-user/my-dataset",
    "path": "meta/info.json",
    "size_bytes": 2,
    "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
}
OPERATIONS = [
    Operation(
        "POST",
        "/files/plan",
        plan_file,
        needs="send",
        own_check=True,
        body=FilePlan,
        answer=Planned,
        example={"file": EXAMPLE},
        errors=[BodyTooLarge, TooManyUploads, QuotaReached, UploadBusy, *ACCEPT_ERRORS],
    ),
]
