"""What comes in the bodies of uploads, counted."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from teleop_runtime.serving.bodies import body_parts

from teleop_video_ingest.metrics import RECEIVED_BYTES


async def counted_parts(request: Request) -> AsyncGenerator[bytes]:
    """`body_parts` of an upload; raises the same."""
    async with aclosing(body_parts(request)) as parts:
        async for part in parts:
            RECEIVED_BYTES.inc(len(part))
            yield part
