"""`/files`: resumable uploads for tus 1.0 clients (https://tus.io/protocols/resumable-upload)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Answer, Bytes, Header, Operation
from teleop_runtime.serving.problems import answer_backend_error
from teleop_runtime.store import OffsetMismatch, UnknownUpload, UploadBusy
from teleop_schema.errors import BackendError, BodyTooLarge, MethodNotAllowed
from teleop_schema.files import MAX_FILE_BYTES

from teleop_video_ingest.api.body import counted_parts
from teleop_video_ingest.errors import (
    BadTusHeader,
    BadTusVersion,
    TooManyUploads,
    UnknownChecksum,
    UploadGone,
)
from teleop_video_ingest.files.catalog import ACCEPT_ERRORS
from teleop_video_ingest.model.announced import from_metadata
from teleop_video_ingest.tables.upload_table import OfferedUpload, Upload
from teleop_video_ingest.uploads import tus
from teleop_video_ingest.uploads.uploads import Uploads

Endpoint = Callable[[Request], Awaitable[Response]]
OVERRIDE = "x-http-method-override"


def speaking_tus(endpoint: Endpoint) -> Endpoint:
    """An endpoint only for clients of tus 1.0; its errors have the protocol's headers too."""

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            tus.check_version(request.headers)
            response = await endpoint(request)
        except BackendError as error:
            response = await answer_backend_error(request, error)
            if isinstance(error, BadTusVersion):
                response.headers["Tus-Version"] = tus.VERSION
        response.headers["Tus-Resumable"] = tus.VERSION
        return response

    return answer


async def tell_capabilities(_request: Request) -> Response:
    """Which parts of the tus protocol this backend supports."""
    return Response(status_code=204, headers={"Tus-Resumable": tus.VERSION, **tus.capabilities()})


@speaking_tus
async def create_upload(request: Request) -> Response:
    """Begin an upload, described by `Upload-Metadata`; its first bytes may be in the body."""
    uploads = _uploads(request)
    creation = tus.read_creation(request.headers)
    checksum = tus.read_checksum(request.headers)
    announced = from_metadata(creation.metadata)
    caller_of(request).check_robot(announced["robot_id"])
    upload = await uploads.create(creation, announced, request.headers.get("upload-metadata", ""))
    offset = 0
    if creation.has_body:
        patch = tus.Patch(0, None, checksum)
        offset, upload = await uploads.append(upload, patch, counted_parts(request), _content_length(request))
    location = address_of(request, f"/files/{upload.id}")
    headers = {"Location": location, **tus.progress(offset, upload.expires_at)}
    return Response(status_code=201, headers=headers)


@speaking_tus
async def tell_offset(request: Request) -> Response:
    """How many bytes of an upload are stored for good; once all of them are, the file is stored."""
    uploads = _uploads(request)
    upload = await uploads.find(_upload_id(request))
    headers = {"Cache-Control": "no-store", **tus.progress(await uploads.offset(upload), upload.expires_at)}
    return Response(status_code=200, headers={**headers, **_description(upload)})


@speaking_tus
async def append_bytes(request: Request) -> Response:
    """Add bytes to an upload; the answer to the last ones comes once the file is stored and registered."""
    uploads = _uploads(request)
    patch = tus.read_patch(request.headers)
    upload = await uploads.find(_upload_id(request))
    offset, upload = await uploads.append(upload, patch, counted_parts(request), _content_length(request))
    return Response(status_code=204, headers=tus.progress(offset, upload.expires_at))


@speaking_tus
async def terminate_upload(request: Request) -> Response:
    """Give up an upload; a file that is stored already stays."""
    uploads = _uploads(request)
    upload = await uploads.find(_upload_id(request))
    await uploads.terminate(upload.id)
    return Response(status_code=204)


async def override_method(request: Request) -> Response:
    """PATCH, HEAD or DELETE for clients that can only POST: X-HTTP-Method-Override names the method."""
    wanted = request.headers.get(OVERRIDE, "").upper()
    methods = {"PATCH": append_bytes, "DELETE": terminate_upload, "HEAD": tell_offset}
    if wanted not in methods:
        raise MethodNotAllowed(
            "an upload does not accept POST",
            field="X-HTTP-Method-Override",
            hint="allowed: " + ", ".join(methods),
        )
    return await methods[wanted](request)


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.state.uploads
    return uploads


def _upload_id(request: Request) -> UUID:
    told = request.path_params["upload_id"]
    try:
        return UUID(told)
    except ValueError:
        raise UnknownUpload(told[:100]) from None


def _content_length(request: Request) -> int | None:
    told = request.headers.get("content-length")
    return None if told is None else int(told)


def _description(upload: Upload) -> Mapping[str, str]:
    length = {"Upload-Defer-Length": "1"} if upload.length is None else {"Upload-Length": str(upload.length)}
    if isinstance(upload, OfferedUpload) and upload.metadata:
        return {**length, "Upload-Metadata": upload.metadata}
    return length


Version = Literal["1.0.0"]
Size = Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
OVERRIDDEN = Header(
    "X-HTTP-Method-Override", "The method that is meant", Literal["PATCH", "DELETE", "HEAD"], True
)
# Any request may have it, and all but OPTIONS must.
RESUMABLE = Header("Tus-Resumable", f"Version of the protocol: `{tus.VERSION}`", Version, required=True)
CHECKSUM = Header(
    "Upload-Checksum",
    f"Algorithm ({' or '.join(tus.CHECKSUM_ALGORITHMS)}) and digest in base64 of the bytes of this request",
)
LENGTH = Header("Upload-Length", "Size of the whole upload, bytes", Size)
OFFSET = Header(
    "Upload-Offset", "How many bytes are stored for good, and where the next ones belong", Size, True
)
EXPIRES = Header("Upload-Expires", "Until when the upload can continue if no bytes come, as an HTTP date")
METADATA = Header(
    "Upload-Metadata",
    "What the file is: `key base64,key base64,…`, with the keys of VideoForm or DatasetForm but `file`; "
    "`kind` is video or dataset, `filename` stands for `path`, and others are ignored",
)
DEFERRED = Header("Upload-Defer-Length", "`1`: the size of the upload is not known yet")
TELLS = [Header("Tus-Resumable", f"`{tus.VERSION}`", Version, True), OFFSET, EXPIRES]
LOCATION = Header("Location", "Its absolute address", required=True)
CAPABILITIES = [
    Header("Tus-Resumable", f"`{tus.VERSION}`", Version, True),
    *(Header(name, f"`{value}`", required=True) for name, value in tus.capabilities().items()),
]
SUPPORTED = Answer(204, "What the server supports is in the headers", headers=CAPABILITIES)
APPEND_ERRORS = [
    BadTusHeader,
    BadTusVersion,
    BodyTooLarge,
    OffsetMismatch,
    UnknownChecksum,
    UploadBusy,
    *ACCEPT_ERRORS,
]
BODY = {tus.BODY_TYPE: Bytes}
ONE_UPLOAD = "/files/{upload_id}"
APPEND = Operation(
    "PATCH",
    ONE_UPLOAD,
    append_bytes,
    needs="send",
    headers=[RESUMABLE, replace(OFFSET, says="Where the bytes of this request belong"), CHECKSUM, LENGTH],
    content=BODY,
    answers=[Answer(204, "The bytes are stored for good", headers=TELLS)],
    errors=[*APPEND_ERRORS, UnknownUpload, UploadGone],
)

OPERATIONS = [
    Operation("OPTIONS", "/files", tell_capabilities, needs="nothing", answers=[SUPPORTED]),
    Operation(
        "OPTIONS",
        ONE_UPLOAD,
        tell_capabilities,
        needs="nothing",
        answers=[SUPPORTED],
        name="tell_upload_capabilities",
    ),
    Operation(
        "POST",
        "/files",
        create_upload,
        needs="send",
        own_check=True,
        headers=[RESUMABLE, LENGTH, DEFERRED, METADATA, CHECKSUM],
        content=BODY,
        may_be_empty=True,
        answers=[
            Answer(
                201,
                "The upload exists",
                headers=[LOCATION, *TELLS],
            )
        ],
        errors=[*APPEND_ERRORS, TooManyUploads],
    ),
    Operation(
        "HEAD",
        ONE_UPLOAD,
        tell_offset,
        needs="send",
        headers=[RESUMABLE],
        answers=[Answer(200, "How far it is", headers=[*TELLS, LENGTH, DEFERRED, METADATA])],
        errors=[BadTusVersion, UnknownUpload, UploadBusy, UploadGone, *ACCEPT_ERRORS],
    ),
    APPEND,
    Operation(
        "DELETE",
        ONE_UPLOAD,
        terminate_upload,
        needs="send",
        headers=[RESUMABLE],
        answers=[Answer(204, "The upload does not exist any more", headers=TELLS[:1])],
        errors=[BadTusVersion, UnknownUpload, UploadBusy, UploadGone],
    ),
    Operation(
        "POST",
        ONE_UPLOAD,
        override_method,
        needs="send",
        headers=[OVERRIDDEN, *(replace(header, required=False) for header in APPEND.headers)],
        content=BODY,
        may_be_empty=True,
        answers=[
            Answer(200, "As HEAD answers", headers=[*TELLS, LENGTH, DEFERRED, METADATA]),
            Answer(204, "As PATCH and DELETE answer", headers=TELLS[:1]),
        ],
        errors=[MethodNotAllowed, *APPEND.errors],
    ),
]
