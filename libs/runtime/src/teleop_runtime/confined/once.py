"""A process for untrusted files that does one thing and ends."""

import asyncio
import contextlib

from teleop_runtime.confined.start import command_of, worker_environment

# The end of its output, which has the reason in its last lines.
MAX_COMPLAINT_BYTES = 4000


class Died(Exception):
    """The process did not end well.

    returncode  minus the number of the signal, or its exit code
    complaint   the end of what it wrote to stderr
    """

    def __init__(self, returncode: int, complaint: str) -> None:
        super().__init__(f"{returncode}: {complaint}")
        self.returncode = returncode
        self.complaint = complaint


async def run_once(module: str, *arguments: str, timeout_s: float, told: bool) -> bytes:
    """Run a module of ours; returns what it wrote to stdout if that is its answer, which `told` says.

    Raises Died, and TimeoutError after `timeout_s`. It does not outlive this call.
    """
    process = await asyncio.create_subprocess_exec(
        *command_of(module, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if told else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env=worker_environment(),
    )
    try:
        async with asyncio.timeout(timeout_s):
            answer, complaint = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        raise Died(process.returncode, complaint[-MAX_COMPLAINT_BYTES:].decode(errors="replace"))
    return answer
