"""The OpenAPI document of the whole backend: `python -m teleop_backend.openapi > deploy/proxy/openapi.json`.

The proxy of the stack serves it as a file, because each of its services knows only its own addresses.
"""

import asyncio
import sys

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


def openapi() -> bytes:
    """What the one-process default answers at /openapi.json, indented."""
    document = answer_of(create_app(load_settings(LocalSettings)), "/openapi.json")
    return msgspec.json.format(document, indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(openapi())
