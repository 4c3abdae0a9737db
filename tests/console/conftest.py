"""A backend with a robot's recording, and Debian's Chromium in front of it."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from filmed import OTHER_NAME, PATIENCE_MS, Recorded, record
from lerobot_robot_virtual.scene import VIEWS
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from teleop_backend.console import BUILT
from teleop_testing.backends.processes import whole_backend
from teleop_testing.waiting import PATIENCE_S

CHROMIUM = shutil.which("chromium")
# Without a sandbox, because tests run as root in CI; without calls to the browser's makers.
BROWSER = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    f"--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1",
)

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "chromium is missing: apt-get install chromium" if CHROMIUM is None else None
    if not (BUILT / "index.html").exists():
        reason = "the page has not been built: make console"
    if reason is not None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def recorded() -> Iterator[Recorded]:
    with (
        # Not in pytest's own folder: that is closed to the account that PostgreSQL runs under.
        tempfile.TemporaryDirectory(prefix="console-") as folder,
        whole_backend(folder, LEROBOT_BACKEND_NAMES=OTHER_NAME) as process,
    ):
        session_id = record(process.url, "robot_A", Path(folder, "spool"))
        found = Recorded(process, session_id, {view: [] for view in VIEWS})
        deadline = time.monotonic() + PATIENCE_S
        while not found.has_arrived():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        told = found.get(f"sessions/{session_id}/videos")
        for video in sorted(told["videos"], key=lambda each: each["chunk_index"]):
            found.frames[video["camera_key"]] += found.get(f"videos/{video['id']}")["frame_indices"]
        yield found


# Of a module: Playwright's own event loop runs as long, and tests of other files have theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=CHROMIUM, args=[*BROWSER])
        yield program
        program.close()


type Open = Callable[..., Page]


@contextmanager
def opened(browser: Browser, url: str, **settings: Any) -> Iterator[BrowserContext]:
    """A browser of one person: nothing goes wrong in it, and it asks nobody but the backend."""
    wrong: list[str] = []
    settings = {"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", **settings}
    context = browser.new_context(**settings)
    context.set_default_timeout(PATIENCE_MS)

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda told: "Security Policy" in told.text and wrong.append(told.text))
        page.on("request", lambda asked: asked.url.startswith(("http", "ws")) and others(asked.url))

    def others(asked: str) -> None:
        if not asked.startswith((url, url.replace("127.0.0.1", OTHER_NAME))):
            wrong.append(f"asked {asked}")

    context.on("page", watch)
    yield context
    context.close()
    assert wrong == []


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where pictures of the page go: what `make test-browser` names, or nowhere that lasts."""
    folder = Path(os.environ.get("TELEOP_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def open_page(browser: Browser, recorded: Recorded) -> Iterator[Open]:
    """Opens a view of the page in a browser of its own, as who shows `token`, or who is on this machine."""
    with ExitStack() as contexts:

        def open_page(
            view: str,
            *,
            token: str | None = None,
            host: str = "127.0.0.1",
            url: str = recorded.url,
            **settings: Any,
        ) -> Page:
            if token is not None:
                settings["extra_http_headers"] = {"Authorization": f"Bearer {token}"}
            page = contexts.enter_context(opened(browser, url, **settings)).new_page()
            page.goto(f"{url.replace('127.0.0.1', host)}/#/{view}")
            return page

        yield open_page
