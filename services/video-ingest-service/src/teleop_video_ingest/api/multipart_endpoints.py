"""`/upload/video`, `/upload/sync`: one file in one request, as curl and browsers send it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Answer, Header, JsonResponse, Operation
from teleop_schema.errors import BodyTooLarge
from teleop_schema.files import Receipt

from teleop_video_ingest.api.body import counted_parts
from teleop_video_ingest.api.forms import DatasetForm, VideoForm
from teleop_video_ingest.errors import BadForm, ChunkConflict, QuotaReached, RobotMismatch, UnknownSession
from teleop_video_ingest.files.catalog import ACCEPT_ERRORS
from teleop_video_ingest.model.announced import (
    LIMITS,
    Announced,
    allowed_fields,
    from_fields,
    required_fields,
)
from teleop_video_ingest.uploads.multipart import FILE_FIELD, FORM_TYPE, MAX_FORM_BYTES, FormReader
from teleop_video_ingest.uploads.uploads import Uploads

# Of a file whose size nobody has told.
CHECK_EVERY_BYTES = 16 * 1024 * 1024


async def upload_video(request: Request) -> Response:
    """Store one chunk of a session's video: 201 with its receipt, 200 if it was stored already."""
    return await _take(request, "video")


async def upload_dataset_file(request: Request) -> Response:
    """Store one file of a dataset: 201 with its receipt, 200 if the path already has this content."""
    return await _take(request, "dataset")


async def _take(request: Request, kind: str) -> Response:
    uploads: Uploads = request.state.uploads
    form = FormReader(request.headers.get("content-type", ""), allowed_fields(kind))
    announced_bytes = int(request.headers.get("content-length", 0))
    if announced_bytes > LIMITS[kind] + MAX_FORM_BYTES:
        raise BodyTooLarge(
            f"a {kind} file may have at most {LIMITS[kind]} bytes", field=FILE_FIELD, limit=LIMITS[kind]
        )
    await uploads.admission.check_room(announced_bytes)
    receipt, new = await uploads.receive(
        _file_parts(request, uploads, form, kind),
        limit=LIMITS[kind],
        tell=lambda: _announced(request, form, kind),
    )
    location = {} if receipt.id is None else {"Location": address_of(request, f"/videos/{receipt.id}")}
    return JsonResponse(receipt, status_code=201 if new else 200, headers=location)


async def _file_parts(
    request: Request, uploads: Uploads, form: FormReader, kind: str
) -> AsyncIterator[bytes]:
    """The file's bytes; if all fields came before them, the fields are checked first."""
    announced: Announced | None = None
    whole = "content-length" in request.headers
    coming_bytes = int(request.headers.get("content-length", 0))
    came_bytes, check_at = 0, 0
    async with aclosing(counted_parts(request)) as parts:
        async for part in parts:
            begun, pieces = form.file_begun, form.feed(part)
            coming_bytes -= len(part)
            came_bytes += sum(map(len, pieces))
            if not begun and form.file_begun and all(name in form.fields for name in required_fields(kind)):
                announced = _announced(request, form, kind)
                await uploads.check(announced)
            if announced is not None and came_bytes >= check_at:
                # As long as the fields are in front of the file, as they should be.
                file_bytes = came_bytes + coming_bytes - form.behind_bytes if whole else came_bytes
                await uploads.admission.check_announced(announced, file_bytes, whole=whole)
                check_at = LIMITS[kind] if whole else came_bytes + CHECK_EVERY_BYTES
            for piece in pieces:
                yield piece
    form.end()


def _announced(request: Request, form: FormReader, kind: str) -> Announced:
    """What the fields say of the file; raises NotAllowed if it is of a robot that the caller may not be."""
    announced = from_fields(kind, form.fields)
    caller_of(request).check_robot(announced["robot_id"])
    return announced


STORED = (
    Answer(200, "The server had this file already, under this name", Receipt),
    Answer(201, "The file is stored for good", Receipt),
)
OF_VIDEO = (UnknownSession, RobotMismatch, ChunkConflict)
LOCATION = Header("Location", "Absolute address of the video chunk")
STORED_VIDEO = tuple(replace(answer, headers=[LOCATION]) for answer in STORED)
ERRORS = [BadForm, BodyTooLarge, QuotaReached]

OPERATIONS = [
    Operation(
        "POST",
        "/upload/video",
        upload_video,
        needs="send",
        own_check=True,
        content={FORM_TYPE.decode(): VideoForm},
        answers=STORED_VIDEO,
        errors=[*ERRORS, *ACCEPT_ERRORS],
    ),
    Operation(
        "POST",
        "/upload/sync",
        upload_dataset_file,
        needs="send",
        own_check=True,
        content={FORM_TYPE.decode(): DatasetForm},
        answers=STORED,
        errors=[*ERRORS, *(error for error in ACCEPT_ERRORS if error not in OF_VIDEO)],
    ),
]
