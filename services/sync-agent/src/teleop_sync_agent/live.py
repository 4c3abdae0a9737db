"""Progress bars on a terminal while the agent works."""

import asyncio
import logging

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from teleop_sync_agent.logs import PlainFormatter
from teleop_sync_agent.sending.datasets import Datasets

# Four times a second is smooth enough for a bar.
REFRESH_S = 0.25


class ConsoleHandler(logging.Handler):
    """Log lines above the bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(PlainFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


async def show_progress(datasets: Datasets, console: Console) -> None:
    """Show a bar for each dataset that is being sent, forever."""
    handler = ConsoleHandler(console)
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    bars: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TextColumn("{task.fields[trouble]}", markup=False),
    )  # fmt: skip
    try:
        with Progress(*columns, console=console, transient=True) as shown:
            while True:
                sending = {
                    tended.place.name: tended.progress
                    for tended in list(datasets.tended.values())
                    if tended.progress is not None
                }
                for name in bars.keys() - sending.keys():
                    shown.remove_task(bars.pop(name))
                for name, progress in sending.items():
                    if name not in bars:
                        bars[name] = shown.add_task(name, total=None, trouble="")
                    shown.update(
                        bars[name],
                        total=progress.bytes_total,
                        completed=progress.bytes_now,
                        trouble=progress.trouble or "",
                    )
                await asyncio.sleep(REFRESH_S)
    finally:
        root.handlers = before
