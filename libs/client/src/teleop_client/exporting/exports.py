"""The requests of `export-to-dataset` to a backend: create an export, follow it, download it."""

import asyncio
import shutil
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from teleop_client.backend_http import BackendHttp, HttpFailure, Interrupted
from teleop_client.credentials import Tokens
from teleop_client.exporting.flags import in_flags, told
from teleop_client.persevering import GaveUp, Patience, persevere
from teleop_client.tar_stream import unpack_from

# It moves the progress bar that people look at.
POLL_S = 0.25
EVENTS = "text/event-stream"
# While nothing changes, the backend says that it is alive; a connection that is silent for longer is dead.
SILENCE_S = 60.0
# A backend that restarts, or whose database restarts, is back within this time.
PATIENCE_S = 60.0


class Progress(Protocol):
    """Shows the progress."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called with a stage, how much of it is done, and its total."""

    def note(self, line: str) -> None:
        """Called with a text that a person should see meanwhile."""


class ExportError(Exception):
    """What went wrong, as text for a person.

    hint       what to do about it
    retryable  whether the same command may succeed later
    """

    def __init__(self, message: str, hint: str | None = None, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.retryable = retryable


class Exports:
    """Exports of one backend. Every method raises HttpFailure, GaveUp, or ExportError."""

    def __init__(self, backend: BackendHttp) -> None:
        self._backend = backend

    @classmethod
    @asynccontextmanager
    async def connected(cls, backend_url: str, tokens: Tokens | None = None) -> AsyncIterator["Exports"]:
        """A context with the exports of that backend; a failed request in it raises ExportError."""
        async with BackendHttp(backend_url, tokens=tokens) as backend:
            try:
                yield cls(backend)
            except GaveUp as gave_up:
                raise _in_words(gave_up.error) from gave_up
            except HttpFailure as error:
                raise _in_words(error) from error

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Request the export; the answer contains its id."""
        return await self._backend.ask("POST", "/exports", dict[str, Any], body=request, patience_s=SILENCE_S)

    async def find(self, fingerprint: str) -> list[dict[str, Any]]:
        """The exports with this fingerprint: one, or none."""
        address = f"/exports?fingerprint={quote(fingerprint)}"
        page = await self._backend.ask("GET", address, dict[str, Any], patience_s=SILENCE_S)
        found: list[dict[str, Any]] = page["exports"]
        return found

    async def follow(self, export_id: int, progress: Progress) -> dict[str, Any]:
        """The export once it is done; raises ExportError if it fails or is cancelled."""
        noted = None
        async with aclosing(self._states(export_id, progress)) as states:
            async for export in states:
                for stage in export["progress"]:
                    progress(stage["stage"], stage["done"], stage["total"])
                # When the backend checks whether it can continue, it reports for a moment
                # that it waits for nothing.
                waits_for = export.get("waits_for") and _waiting(export["waits_for"])
                if waits_for and waits_for != noted:
                    progress.note(waits_for)
                noted = None if export["progress"] else waits_for or noted
                if export["status"] == "done":
                    break
                if export["status"] == "failed":
                    raise _told(export["error"])
                if export["status"] == "cancelled":
                    raise ExportError(
                        f"export {export_id} was cancelled",
                        "run the command again to restart it",
                        retryable=True,
                    )
        # Asked once more: an event tells how far it is, not what the report says.
        return await self._get(export_id, progress)

    async def follow_push(self, export_id: int, progress: Progress) -> str:
        """Where on the Hub the export is, once it has been pushed; raises ExportError if that fails."""
        async with aclosing(self._states(export_id, progress)) as states:
            async for export in states:
                push = export["push"]
                if push is None:
                    break
                if push["status"] == "failed":
                    raise _told(push["error"])
                ended = push["status"] == "done"
                if push["total_bytes"] or ended:  # 0 of 0, before it begins, does not mean done
                    progress("push", push["done_bytes"], push["total_bytes"])
                if ended:
                    return str(push["commit_url"])
        raise ExportError(
            f"export {export_id} should no longer be pushed", "run the command again", retryable=True
        )

    async def _states(self, export_id: int, progress: Progress) -> AsyncGenerator[dict[str, Any]]:
        """The export now and whenever it changes: from the backend's events, or by polling
        if something in between blocks these events."""
        try:
            async with self._backend.request("GET", f"/exports/{export_id}/events", patience_s=SILENCE_S) as (
                response,
                deadline,
            ):
                # A proxy may answer with a page of its own.
                if response.content_type == EVENTS:
                    async for line in response.content:
                        deadline.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                        # Other lines only say that the backend is alive.
                        if line.startswith(b"data: ") and (export := msgspec.json.decode(line[6:])):
                            yield export
        except (HttpFailure, ValueError):
            pass  # what is wrong with the backend, if anything is, the next question shows
        while True:
            yield await self._get(export_id, progress)
            await asyncio.sleep(POLL_S)

    async def _get(self, export_id: int, progress: Progress) -> dict[str, Any]:
        address = f"/exports/{export_id}"
        attempt = partial(self._backend.ask, "GET", address, dict[str, Any], patience_s=SILENCE_S)
        return await persevere(attempt, report=Patience(PATIENCE_S, progress.note).report)

    async def fetch(self, export_id: int, target: Path, progress: Progress, *, is_dataset: bool) -> None:
        """Download the export to `target`, which must not exist yet; it appears as a whole, or not at all."""
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        patience = Patience(PATIENCE_S, progress.note)
        furthest_bytes = 0

        async def attempt() -> None:
            came_bytes = 0

            def advance(piece_bytes: int, total_bytes: int) -> None:
                nonlocal came_bytes, furthest_bytes
                # Before the first byte is written, and for each attempt, as others fill the disk, too.
                if not came_bytes:
                    check_room(target.parent, total_bytes)
                came_bytes += piece_bytes
                # Only what never came before is progress: a line that breaks at the same place each time
                # makes none.
                if came_bytes > furthest_bytes:
                    furthest_bytes = came_bytes
                    patience.got_on()
                progress("download", came_bytes, total_bytes)

            with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
                unpacked = Path(folder, "unpacked")
                address = f"/exports/{export_id}/archive"
                await unpack_from(
                    self._backend, address, partial(_unpack, folder=unpacked), advance, patience.report
                )
                await asyncio.to_thread(_put, unpacked, target, is_dataset=is_dataset)

        await persevere(attempt, report=patience.report)


def _in_words(error: HttpFailure) -> ExportError:
    """The error text for a person after a failed request."""
    retryable = isinstance(error, Interrupted)
    problem = error.problem
    if problem is None and not retryable:
        return ExportError(str(error))
    if problem is None:
        hint = "is it running, and is this its address? Set it with --backend_url or LEROBOT_BACKEND_URL"
        return ExportError(f"cannot reach the backend: {error}", hint, retryable=retryable)
    told_hint = in_flags(problem.hint) if problem.hint else None
    return ExportError(told(problem.detail, problem.field), told_hint, retryable=retryable)


def _waiting(problem: dict[str, Any]) -> str:
    hint = f"; {in_flags(problem['hint'])}" if problem.get("hint") else ""
    return f"waiting: {in_flags(problem['detail'])}{hint}"


def _told(problem: dict[str, Any]) -> ExportError:
    hint = in_flags(problem["hint"]) if problem.get("hint") else None
    # Older backends do not say whether the same command may succeed later.
    return ExportError(
        told(problem["detail"], problem.get("field")), hint, retryable=problem.get("retryable", False)
    )


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack an untrusted archive: the data filter keeps every member below `folder`."""
    folder.mkdir(parents=True)
    try:
        archive.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise ExportError(f"the archive can't be unpacked: {error}") from error


def _put(unpacked: Path, target: Path, *, is_dataset: bool) -> None:
    """Move the one folder of the archive to `target`."""
    contents = list(unpacked.iterdir())
    if len(contents) != 1 or not contents[0].is_dir():
        raise ExportError("the archive does not hold a single folder")
    if is_dataset and not (contents[0] / "meta" / "info.json").is_file():
        raise ExportError("the archive holds no dataset")
    # Asked again, because the download may have taken an hour; only an empty folder is removed.
    check_free(target)
    # It is an empty folder, if anything: a rename onto one fails on some systems.
    shutil.rmtree(target, ignore_errors=True)
    contents[0].rename(target)


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raise ExportError if the disk of `folder` has less room."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise ExportError(
            f"{folder} has {free_bytes / 1e9:.2f} GB free, and the export needs {needed_bytes / 1e9:.2f} GB",
            "free some space, or choose another --root",
            retryable=True,
        )


def check_free(target: Path) -> None:
    """Raise ExportError if `target` exists already; an empty folder is allowed."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(
            f"{target} already exists and is not overwritten",
            "remove it, or choose another --root or --repo_id",
        )
