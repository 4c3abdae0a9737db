"""The OpenAPI document of the whole backend: `python -m teleop_backend.openapi > deploy/proxy/openapi.json`.

The proxy of the stack serves it as a file, because each of its services knows only its own addresses.
"""

import asyncio
import sys

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from teleop_runtime.settings import load_settings

from teleop_backend.app import create_app
from teleop_backend.settings import LocalSettings


def openapi() -> bytes:
    """What the one-process default answers at /openapi.json, indented."""
    app = create_app(load_settings(LocalSettings))
    route = next(route for route in app.routes if isinstance(route, Route) and route.path == "/openapi.json")
    response = asyncio.run(route.endpoint(Request({"type": "http"})))
    document: bytes = msgspec.json.format(response.body, indent=1)
    return document + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(openapi())
