"""Reads the bodies of uploads, and counts their bytes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from teleop_runtime.serving.bodies import body_parts

from teleop_video_ingest.metrics import RECEIVED_BYTES


async def counted_parts(request: Request) -> AsyncGenerator[bytes]:
    """`body_parts` of an upload, counted; raises the same."""
    async with aclosing(body_parts(request)) as parts:
        async for part in parts:
            RECEIVED_BYTES.inc(len(part))
            yield part
