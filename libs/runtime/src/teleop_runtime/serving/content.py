"""Bytes that are kept as an HTTP answer: whole or a range, and not again to a client that has them."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send
from teleop_schema.errors import BadRange

from teleop_runtime.serving import problems
from teleop_runtime.serving.operations import JSON, Answer, Bytes, Header
from teleop_runtime.serving.ranges import names_etag, wanted_range

# How clients ask for content, and what it may be answered with.
RANGE_HEADERS = (
    Header("Range", "One range of bytes, first and last: `bytes=0-1023`; `bytes=-1024`: the last 1024"),
    Header("If-Range", "An ETag: if the content has another one now, all of it is sent instead of the range"),
    Header("If-None-Match", "ETags: if the content has one of them, it is not sent"),
)
FILENAME = Header("Content-Disposition", "A name for the file", required=True)
_ABOUT = (
    Header("ETag", "The same as long as the content is; of stored files their SHA-256", required=True),
    Header("Accept-Ranges", "`bytes`", required=True),
    Header(
        "Cache-Control", "`no-cache`: ask with If-None-Match whether a copy is still right", required=True
    ),
)
_LENGTH = Header("Content-Length", "Size of this answer, bytes", int, required=True)


def content_answers(media_types: Iterable[str], headers: Sequence[Header] = ()) -> tuple[Answer, ...]:
    """What `answer_content` gives, unless there is an error."""
    about = (*_ABOUT, *headers)
    media = {name: Any if name == JSON else Bytes for name in sorted(media_types)}
    part = Header("Content-Range", "`bytes first-last/size`", required=True)
    return (
        Answer(200, "All of it", media=media, headers=(*about, _LENGTH)),
        Answer(206, "The range that was asked for", media=media, headers=(*about, part, _LENGTH)),
        Answer(304, "The client has it", headers=about),
    )


async def answer_content(
    request: Request,
    read: Callable[[int, int], AsyncGenerator[bytes]],
    size_bytes: int,
    *,
    etag: str,
    media_type: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The content, or the requested range of it; 304 if the client has it, 416 beyond its end.

    read  the bytes from the first position up to, without, the second
    etag  with its quotes; other bytes have another one
    """
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
    return _Content(read(start, end), status, about, media_type)


class _Content(StreamingResponse):
    """Closes what it reads, however the client leaves."""

    def __init__(
        self, parts: AsyncGenerator[bytes], status: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(parts, status, headers, media_type)
        self._parts = parts

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._parts):
            await super().stream_response(send)


def attachment(filename: str) -> dict[str, str]:
    """The header by which a browser saves an answer under that name (RFC 6266)."""
    plain = filename.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
    told = f'attachment; filename="{plain}"'
    if plain != filename:
        told += f"; filename*=UTF-8''{quote(filename, safe='')}"
    return {"Content-Disposition": told}
