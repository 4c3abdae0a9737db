"""Every background task of every service: one that stumbles goes on."""

import ast
import asyncio
import errno
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import teleop_backend
import teleop_export
import teleop_runtime
import teleop_telemetry
import teleop_video_ingest
from teleop_backend.app import postgres_part
from teleop_backend.postgres import EmbeddedPostgres
from teleop_export.app import export_part
from teleop_export.hub.settings import HubSettings
from teleop_export.webhooks.settings import WebhookSettings
from teleop_runtime import background
from teleop_runtime.background import Background, _Task
from teleop_runtime.gate import access_part
from teleop_runtime.metrics import REGISTRY
from teleop_telemetry.app import telemetry_part
from teleop_testing.waiting import until
from teleop_video_ingest.app import ingest_part

ALL = {
    "archiving",
    "audit of ended sessions",
    "batcher",
    "changes of archived sessions",
    "outcome reasons in the archive",
    "end of abandoned sessions",
    "erasing of exports",
    "erasing of files",
    "erasing of sessions",
    "flags of episodes",
    "imports of datasets",
    "length of the queue",
    "look for lost archives",
    "look for revoked tokens",
    "look for dead workers",
    "look for pushes",
    "old deliveries of webhooks",
    "sending of webhooks",
    "looks into video",
    "making of exports",
    "notes on erasures",
    "notes on sessions",
    "notes on versions",
    "notes on datasets",
    "notes on video",
    "pushing",
    "quotas of robots",
    "room of the store",
    "size of the database",
    "robots of one name",
    "sweep of the store",
    "video of imported datasets",
    "watch over PostgreSQL",
}
VITAL = {"batcher", "making of exports", "pushing", "watch over PostgreSQL"}

# Where else tasks and threads begin, and why none of them can end unseen. All that goes on for as long as a
# service runs goes through `Background`.
ENDS_WITH_ITS_CALLER = "awaited by what began it, which hears of its errors"
OTHERS = {
    (
        "teleop_telemetry/receiving/batcher.py",
        "run",
    ): "one commit: told to the writers whose frames it holds",
    (
        "teleop_telemetry/archive/edits.py",
        "note_at_once",
    ): "a change for which its request waits for a moment: logs its errors, and is tried again",
    ("teleop_telemetry/receiving/log_endpoint.py", "_talk"): ENDS_WITH_ITS_CALLER,
    ("teleop_telemetry/tables/numbers.py", "take"): ENDS_WITH_ITS_CALLER,
    (
        "teleop_telemetry/receiving/plain_mode.py",
        "_refuse",
    ): "goes on after any error, as long as its connection",
    ("teleop_telemetry/tables/session_table.py", "_take_over"): ENDS_WITH_ITS_CALLER,
    (
        "teleop_video_ingest/files/probe.py",
        "go_on",
    ): "a check of a file, whose result its caller waits for a while for; it ends with the prober",
    ("teleop_video_ingest/files/verification.py", "verify_objects"): ENDS_WITH_ITS_CALLER,
    ("teleop_runtime/serving/app.py", "_ask"): "a check of readiness, whose result it is",
    ("teleop_runtime/postgres/pulse.py", "listen"): "one look at the server: its error is the result",
    ("teleop_runtime/postgres/pulse.py", "soon"): ENDS_WITH_ITS_CALLER,
    (
        "teleop_runtime/postgres/pulse.py",
        "patiently",
    ): "a connection on its way: ends with its caller, or with the pool's own limit",
    ("teleop_runtime/postgres/pulse.py", "_listen_until"): ENDS_WITH_ITS_CALLER,
    ("teleop_export/tables/database.py", "_answers_soon"): ENDS_WITH_ITS_CALLER,
    (
        "teleop_export/webhooks/sender.py",
        "_work",
    ): "of a TaskGroup: its errors end the work, which begins again",
    ("teleop_runtime/background.py", "_start"): "what this is about",
    ("teleop_runtime/serving/graceful.py", "drain_before_exit"): "around `handle`, see there",
    ("teleop_runtime/serving/graceful.py", "handle"): "the drain before the end: logs its errors",
    ("teleop_runtime/serving/starting.py", "__init__"): "the life of all parts: its errors end the server",
    ("teleop_runtime/serving/validity.py", "while_valid"): ENDS_WITH_ITS_CALLER,
    ("teleop_runtime/serving/validity.py", "events_while_valid"): ENDS_WITH_ITS_CALLER,
    ("teleop_runtime/serving/operations.py", "answer"): ENDS_WITH_ITS_CALLER,
    ("teleop_runtime/serving/operations.py", "while_connected"): "around `answer`, see there",
    ("teleop_runtime/store/writers.py", "run"): ENDS_WITH_ITS_CALLER,
    ("teleop_runtime/serving/graceful.py", "until_asked_to_end"): ENDS_WITH_ITS_CALLER,
    (
        "teleop_backend/postgres/server.py",
        "_launch",
    ): "waits for a process that ends; the watch starts it again",
    ("teleop_backend/demo/relay.py", "_relay"): ENDS_WITH_ITS_CALLER,
    ("teleop_backend/demo/relay.py", "running"): "only in the demonstration, which looks whether it works",
}
BEGIN = {"create_task", "ensure_future", "Thread"}


def begun(package: object) -> set[tuple[str, str]]:
    """File and function of each place where a task or a thread begins."""
    folder = Path(str(package.__file__)).parent
    found = set()
    for path in folder.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(isinstance(call, ast.Attribute) and call.attr in BEGIN for call in calls):
                    found.add((path.relative_to(folder.parent).as_posix(), function.name))
    return found


def test_nothing_else_begins_by_itself():
    """A new task or thread belongs into `Background`, or into the list above with the reason why not."""
    packages = (teleop_runtime, teleop_telemetry, teleop_video_ingest, teleop_export, teleop_backend)
    assert set().union(*map(begun, packages)) == set(OTHERS)


@pytest.fixture
def stumbles(monkeypatch):
    """Names of all work that works although it failed twice: at once, and after it had begun.

    A look works once it has returned, and other work once it has run on for a while.
    """
    works = set()
    monkeypatch.setattr(background, "RESTART_AFTER_S", 0.01)
    monkeypatch.setattr(background, "STEADY_AFTER_S", 0.1)
    keep, every = Background.keep, Background.every

    def stumbling(name, work):
        calls = 0

        async def stumble():
            nonlocal calls
            calls += 1
            if calls == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            if calls == 2:
                await interrupted(work)
                raise OSError(errno.EMFILE, "Too many open files")
            await work()
            works.add(name)

        return stumble

    def keep_stumbling(self, name, work, *, vital=False):
        keep(self, name, stumbling(name, work), vital=vital)

    def look_stumbling(self, seconds, name, look, *, at_once=True, vital=False):
        every(self, min(seconds, 0.1), name, stumbling(name, look), vital=vital)

    monkeypatch.setattr(_Task, "got_on", noting(_Task.got_on, works))
    monkeypatch.setattr(Background, "keep", keep_stumbling)
    monkeypatch.setattr(Background, "every", look_stumbling)
    return works


async def interrupted(work):
    """Let it run to where it first waits for something else, and a bit further, and end it there."""
    working = asyncio.ensure_future(work())
    for _ in range(3):
        await asyncio.sleep(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


def noting(got_on, works):
    """`got_on`, which notes the name of each task that has overcome its trouble."""

    def note(task):
        if task.trouble is not None:
            works.add(task.name)
        got_on(task)

    return note


async def test_all_of_it_works_again(stumbles, tmp_path):
    """Descriptors run out for a moment, everywhere, before the work begins and in the middle of it: then all
    of it works, nothing is in trouble any more, and readiness tells what is vital."""
    postgres = EmbeddedPostgres(tmp_path / "data")
    store = tmp_path / "files"
    parts = [
        postgres_part(postgres),
        access_part(postgres.url()),
        telemetry_part(postgres.url(), str(store), retention_days=1),
        ingest_part(postgres.url(), str(store)),
        export_part(postgres.url(), store / ".exports", str(store), HubSettings(), WebhookSettings()),
    ]
    async with AsyncExitStack() as stack:
        checks = {}
        for part in parts:
            checks |= (await stack.enter_async_context(part.lifespan())).checks
        await until(lambda: stumbles == ALL)
        await until(lambda: not any(map(in_trouble, ALL)))
        assert checks.keys() >= VITAL
        for name in VITAL:
            await checks[name]()


def in_trouble(name):
    return REGISTRY.get_sample_value("background_in_trouble", {"task": name})
