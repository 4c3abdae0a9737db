"""Stored bytes as an HTTP answer: whole or a range, cached by their SHA-256."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from teleop_runtime.serving import problems
from teleop_runtime.serving.operations import Answer, Bytes, Header
from teleop_runtime.store import Store
from teleop_schema.identifiers import local_path

from teleop_video_ingest.api.ranges import names_etag, wanted_range
from teleop_video_ingest.errors import BadRange

BINARY = "application/octet-stream"
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown; charset=utf-8",
    ".mp4": "video/mp4",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".tiff": "image/tiff",
    ".txt": "text/plain; charset=utf-8",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}

# How clients ask for content, and what it may be answered with.
RANGE_HEADERS = (
    Header("Range", "One range of bytes, first and last: `bytes=0-1023`; `bytes=-1024`: the last 1024"),
    Header("If-Range", "An ETag: if the content has another one now, all of it is sent instead of the range"),
    Header("If-None-Match", "ETags: if the content has one of them, it is not sent"),
)
_ABOUT = (
    Header("ETag", "SHA-256 of the whole content, in quotes", required=True),
    Header("Accept-Ranges", "`bytes`", required=True),
    Header(
        "Cache-Control", "`no-cache`: ask with If-None-Match whether a copy is still right", required=True
    ),
)
_LENGTH = Header("Content-Length", "Size of this answer, bytes", int, required=True)


def content_answers(media_types: Iterable[str], headers: Sequence[Header] = ()) -> tuple[Answer, ...]:
    """What `answer_content` gives, unless there is an error."""
    about, media = (*_ABOUT, *headers), dict.fromkeys(sorted(media_types), Bytes)
    part = Header("Content-Range", "`bytes first-last/size`", required=True)
    return (
        Answer(200, "All of it", media=media, headers=(*about, _LENGTH)),
        Answer(206, "The range that was asked for", media=media, headers=(*about, part, _LENGTH)),
        Answer(304, "The client has it", headers=about),
    )


def media_type_of(path: str) -> str:
    """Media type of a stored file by its own ending; never one that a browser would run."""
    return MEDIA_TYPES.get(PurePosixPath(local_path(path)).suffix.lower(), BINARY)


async def answer_content(
    request: Request,
    sha256: str,
    size_bytes: int,
    media_type: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The object, or the requested range of it; 304 if the client has it, 416 beyond its end."""
    etag = f'"{sha256}"'
    about = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache", **(headers or {})}
    if names_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=about)
    condition = request.headers.get("if-range")
    asked = request.headers.get("range") if condition in (None, etag) and request.method == "GET" else None
    try:
        found = wanted_range(asked, size_bytes)
    except BadRange as error:
        response = await problems.answer_backend_error(request, error)
        response.headers.update({**about, "Content-Range": f"bytes */{size_bytes}"})
        return response
    start, end = found or (0, size_bytes)
    about["Content-Length"] = str(end - start)
    if found is not None:
        about["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    status = 200 if found is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=about, media_type=media_type)
    store: Store = request.state.store
    return StreamingResponse(store.read(sha256, start, end), status, about, media_type)
