"""The console: the page at `/`, as `make console` has built it. It asks only the API's own addresses."""

import hashlib
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.app import Running, ServicePart
from teleop_runtime.serving.openapi.document import Described
from teleop_runtime.serving.operations import Answer, Bytes, Header, Operation
from teleop_runtime.serving.ranges import names_etag
from teleop_schema.errors import NotFound

BUILT = Path(__file__).with_name("page")
# Whoever has a clone: releases and images have the page.
BUILD_IT = "make console builds it; every address of the API is at /docs"
# What the browser may do with the page: run its own files, and ask the backend that it comes from.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The names of these files have a hash of what is in them.
FOR_EVER = "public, max-age=31536000, immutable"
TYPES = ("text/javascript", "text/css", "image/svg+xml")

PartName = Annotated[
    str, Meta(description="Name of a part of the page, as the page has it", examples=["index-BtKB_t-j.js"])
]
_CACHE = Header("Cache-Control", "How long a copy is right", required=True)
PAGE = Answer(200, "HTML, which loads its parts from `/ui/`", media={"text/html": str}, headers=[_CACHE])
UNCHANGED = Answer(304, "The client has it", headers=[_CACHE])
FILE = Answer(200, "The file", media={name: Bytes for name in TYPES}, headers=[_CACHE])


async def show_console(request: Request) -> Response:
    """The page in which people look at what was recorded, judge it and export it."""
    content, etag = _page()
    about = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if names_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=about)
    return Response(content, headers=about, media_type="text/html")


async def get_console_file(request: Request) -> Response:
    """A part of that page; its name changes with its content."""
    name: str = request.path_params["file"]
    found = _files().get(name)
    if found is None:
        raise NotFound("the page has no such part", field="file", hint="load the page again")
    content, media_type = found
    return Response(content, headers={"Cache-Control": FOR_EVER}, media_type=media_type)


@cache
def _page() -> tuple[bytes, str]:
    """The page and its ETag; raises NotFound if it was not built."""
    try:
        content = (BUILT / "index.html").read_bytes()
    except FileNotFoundError as error:
        raise NotFound("the page has not been built here", hint=BUILD_IT) from error
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """The parts of the page and their media types, by name: few, and small."""
    return {
        path.name: (path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        for path in (BUILT / "ui").glob("*")
    }


@asynccontextmanager
async def _lifespan() -> AsyncIterator[Running]:
    yield Running(state={})


def console_part() -> ServicePart:
    """The page as a part of a server."""
    return ServicePart(
        name="console",
        operations=[
            Operation(
                "GET",
                "/",
                show_console,
                needs="nothing",
                headers=[Header("If-None-Match", "ETags: if the page has one of them, it is not sent")],
                answers=[PAGE, UNCHANGED],
                errors=[NotFound],
                tag="console",
            ),
            Operation(
                "GET",
                "/ui/{file}",
                get_console_file,
                needs="nothing",
                answers=[FILE],
                errors=[NotFound],
                tag="console",
            ),
        ],
        lifespan=_lifespan,
        described=Described(tags={"console": "The page for people"}, names={"file": PartName}),
    )
