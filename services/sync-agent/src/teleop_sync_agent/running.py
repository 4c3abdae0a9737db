"""How an agent runs: until it is told to end, with bars on a terminal, and while a disk is full, waiting."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from teleop_sync_agent.agent import Agent
from teleop_sync_agent.asking import join_first
from teleop_sync_agent.errors import AgentError, DiskFull
from teleop_sync_agent.metrics import AgentMetrics
from teleop_sync_agent.settings import Settings

# Nobody is told when a disk has room again.
ROOM_AGAIN_S = 5.0
# After an agent has worked for this long, a full disk is news again, and logged.
CALM_S = 60.0

log = logging.getLogger(__name__)


async def run(
    settings: Settings, watched: Callable[[Agent, Coroutine[Any, Any, None]], Awaitable[None]]
) -> None:
    """Work forever. Raises AgentError if the agent can't, unless only its disk is full.

    watched  runs an agent's work, and shows how far it is
    """
    if settings.fleet is not None:
        await join_first(settings.fleet, settings.robot_id, settings.tokens)
    metrics: AgentMetrics | None = None
    told: str | None = None
    while True:
        began_s = time.monotonic()
        try:
            agent = Agent(settings)
            try:
                if settings.metrics_port is not None:
                    metrics = metrics or _serve(settings.metrics_port)
                    metrics.take = agent.figures
                await watched(agent, agent.run())
            finally:
                agent.close()
        except DiskFull as error:
            # A new agent forgets nothing: what was confirmed is in the memory, for the rest it asks again.
            if str(error) != told or time.monotonic() - began_s > CALM_S:
                told = str(error)
                log.error("waiting for space", extra={"error": told})
            await asyncio.sleep(ROOM_AGAIN_S)


async def with_bars(agent: Agent, work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work`, with progress bars on a terminal."""
    if not sys.stderr.isatty():
        return await work
    from rich.console import Console

    from teleop_sync_agent.live import show_progress

    bars = asyncio.create_task(show_progress(agent.datasets, Console(stderr=True)))
    try:
        return await work
    finally:
        bars.cancel()
        await asyncio.gather(bars, return_exceptions=True)


async def until_told(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`; None if SIGTERM ended it in an orderly way."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        # The task itself was cancelled; Ctrl-C would have cancelled the function that waits here.
        if (here := asyncio.current_task()) is not None and here.cancelling():
            raise
        return None


def _serve(port: int) -> AgentMetrics:
    metrics = AgentMetrics()
    try:
        metrics.serve(port)
    except OSError as error:
        raise AgentError(f"--metrics-port {port}: {error.strerror}") from error
    return metrics
