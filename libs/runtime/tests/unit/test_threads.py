"""Blocking work on files in threads, whose readers may go away at any moment."""

import asyncio
import os

import anyio
import pytest
from teleop_runtime.store.threads import in_thread, read_file

PART_BYTES = 1024 * 1024


@pytest.mark.parametrize(("start", "end"), [(0, None), (5, None), (5, 9), (9, 9), (2 * PART_BYTES, None)])
async def test_ranges(tmp_path, start, end):
    path = tmp_path / "file"
    content = bytes(range(256)) * (2 * PART_BYTES // 256) + b"rest"
    path.write_bytes(content)
    parts = [part async for part in read_file(path, start, end)]
    assert b"".join(parts) == content[start:end]
    assert max((len(part) for part in parts), default=0) <= PART_BYTES


async def test_a_reader_that_goes_while_the_file_is_opened(tmp_path):
    """Starlette cancels an answer again and again; the file is closed, as the pipe's other end sees."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    scope = anyio.CancelScope()

    async def read():
        with scope:
            await anext(read_file(pipe))

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    scope.cancel()
    # Returns once the reader's thread has opened it, too.
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        await reading
        assert scope.cancelled_caught
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"anybody?")
    finally:
        os.close(writer)


async def test_no_thread_goes_on_unnoticed(tmp_path):
    """However often it is cancelled, what started the work waits for its end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = []

    def work():
        with pipe.open("rb") as file:
            ended.append(file.read())

    with anyio.CancelScope() as scope:

        async def end_it():
            (await asyncio.to_thread(pipe.open, "wb")).close()

        ending = asyncio.create_task(end_it())
        scope.cancel()
        await in_thread(work)
    assert ended == [b""]
    await ending
