"""Progress bars."""

import asyncio
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console
from teleop_sync_agent.live import show_progress
from teleop_sync_agent.sending.dataset_sync import UploadProgress
from teleop_testing.waiting import until


@pytest.mark.parametrize("text", ["cube[/b]", "[link=file:///etc/passwd]cube", "[red]"])
async def test_names_and_reasons_are_no_markup(text):
    """Whoever names a folder, or answers as the backend, neither paints nor ends what shows it."""
    progress = UploadProgress()
    progress.trouble = text
    tended = SimpleNamespace(place=SimpleNamespace(name=text), progress=progress)
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    showing = asyncio.create_task(show_progress(SimpleNamespace(tended={text: tended}), console))
    await until(lambda: showing.done() or screen.getvalue().count(text) >= 2)
    assert not showing.done()
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
