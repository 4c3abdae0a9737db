"""A fault that only shows now and then shows in every test: an event loop used from another thread."""

import asyncio

import pytest


async def test_a_loop_refuses_another_thread():
    loop = asyncio.get_running_loop()

    def use() -> None:
        for call in (lambda: loop.call_soon(print), lambda: loop.call_later(1, print)):
            with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                call()

    await asyncio.to_thread(use)
