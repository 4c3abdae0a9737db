"""Stored objects as HTTP answers, cached by their SHA-256."""

from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.serving.content import answer_content
from teleop_runtime.store import Store
from teleop_schema.identifiers import local_path

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


def media_type_of(path: str) -> str:
    """Media type of a stored file by its own ending; never one that a browser would run."""
    return MEDIA_TYPES.get(PurePosixPath(local_path(path)).suffix.lower(), BINARY)


async def answer_object(
    request: Request,
    sha256: str,
    size_bytes: int,
    media_type: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The object, or the requested range of it; 304 if the client has it, 416 beyond its end."""
    store: Store = request.state.store
    return await answer_content(
        request,
        partial(store.read, sha256),
        size_bytes,
        etag=f'"{sha256}"',
        media_type=media_type,
        headers=headers,
    )
