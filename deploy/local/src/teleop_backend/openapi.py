"""What describes the whole backend, as files: `python -m teleop_backend.openapi deploy/proxy`.

The proxy of the stack serves them, because each of its services knows only its own addresses.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from teleop_runtime.settings import load_settings

from teleop_backend.app import create_app
from teleop_backend.settings import LocalSettings


def answer_of(app: Starlette, path: str) -> bytes:
    """What a server that need not have started answers at one of the addresses that describe it."""
    route = next(route for route in app.routes if isinstance(route, Route) and route.path == path)
    body: bytes = asyncio.run(route.endpoint(Request({"type": "http"}))).body
    return body


def descriptions() -> dict[str, bytes]:
    """What the one-process default answers at /openapi.json, indented, and at /docs, by the file's name."""
    app = create_app(load_settings(LocalSettings))
    document = msgspec.json.format(answer_of(app, "/openapi.json"), indent=1)
    return {"openapi.json": document + b"\n", "docs.html": answer_of(app, "/docs")}


if __name__ == "__main__":
    for name, content in descriptions().items():
        Path(sys.argv[1], name).write_bytes(content)
