"""The export CLI's side of HTTP: ask, follow, fetch, unpack."""

import asyncio
import os
import shutil
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

POLL_S = 0.25
EVENTS = "text/event-stream"
READ_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 60.0

_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


class Progress(Protocol):
    """Shows how far it is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Told a stage, how much of it is done and how much there is."""

    def note(self, line: str) -> None:
        """Told what a person should know meanwhile."""


class ExportError(Exception):
    """What went wrong, in words for a person; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def http_url(backend_url: str) -> str:
    """The backend's HTTP address, for one given as http(s):// or as ws(s)://."""
    parts = urlsplit(backend_url)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise ExportError(
            f"{backend_url!r} is not the address of a backend",
            "write it as http://host:port or ws://host:port",
        )
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/"), "", ""))


def _why(error: Exception) -> str:
    """What is in the way of a connection, in the system's own words where it has some."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno:
        # Errors of name resolution are negative, and say it in their own words.
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return str(error) or "no answer in time"


class Client:
    """One backend. Every method raises ExportError."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @asynccontextmanager
    async def connect(cls, backend_url: str) -> AsyncIterator["Client"]:
        url = http_url(backend_url)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                yield cls(session, url)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                raise ExportError(
                    f"cannot reach the backend at {url}: {_why(error)}",
                    (
                        "is it running, and is this its address? Set it with --backend_url or "
                        "LEROBOT_BACKEND_URL"
                    ),
                ) from error
            except aiohttp.ClientError as error:
                raise ExportError(
                    f"the connection to {url} was lost: {error}", "run the command again"
                ) from error

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the export made; the answer tells its id."""
        async with self._session.post(f"{self._url}/exports", json=request) as response:
            return await _answer(response)

    async def follow(self, export_id: int, progress: Progress) -> dict[str, Any]:
        """The export once it is done; raises ExportError if it fails or is cancelled."""
        noted = None
        async with aclosing(self._states(export_id)) as states:
            async for export in states:
                for stage in export["progress"]:
                    progress(stage["stage"], stage["done"], stage["total"])
                # Each time that the backend looks whether it can go on it waits for nothing, for a moment.
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
                        f"export {export_id} was cancelled", "run the command again to restart it"
                    )
        return await self._get(export_id)

    async def follow_push(self, export_id: int, progress: Progress) -> str:
        """Where on the Hub the export is, once it has been pushed; raises ExportError if that fails."""
        async with aclosing(self._states(export_id)) as states:
            async for export in states:
                push = export["push"]
                if push is None:
                    break
                if push["status"] == "failed":
                    raise _told(push["error"])
                ended = push["status"] == "done"
                if push["total_bytes"] or ended:  # nothing of nothing, before it begins, is not all
                    progress("push", push["done_bytes"], push["total_bytes"])
                if ended:
                    return str(push["commit_url"])
        raise ExportError(f"export {export_id} should no longer be pushed", "run the command again")

    async def _states(self, export_id: int) -> AsyncGenerator[dict[str, Any]]:
        """The export now and whenever it changes: as the backend tells it, or where something on the way does
        not let its events through, by asking again and again."""
        url = f"{self._url}/exports/{export_id}/events"
        try:
            async with self._session.get(url) as response:
                if response.content_type == EVENTS:
                    async for line in response.content:
                        if line.startswith(b"data: ") and (export := msgspec.json.decode(line[6:])):
                            yield export
        except (aiohttp.ClientError, TimeoutError, ValueError):
            pass
        while True:
            yield await self._get(export_id)
            await asyncio.sleep(POLL_S)

    async def _get(self, export_id: int) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/exports/{export_id}") as response:
            return await _answer(response)

    async def fetch(self, export_id: int, target: Path, progress: Progress, *, is_dataset: bool) -> None:
        """Put the export at `target`, which must not exist yet: there it is whole, or not at all."""
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            archive, unpacked = Path(folder, "archive.tar"), Path(folder, "unpacked")
            await self._download(f"{self._url}/exports/{export_id}/archive", archive, progress)
            await asyncio.to_thread(_unpack, archive, unpacked)
            await asyncio.to_thread(_put, unpacked, target, is_dataset=is_dataset)

    async def _download(self, url: str, path: Path, progress: Progress) -> None:
        async with self._session.get(url) as response:
            if response.status != 200:
                await _answer(response)
            size_bytes, done_bytes = response.content_length or 0, 0
            with path.open("wb") as file:
                async for part in response.content.iter_chunked(READ_BYTES):
                    await asyncio.to_thread(file.write, part)
                    done_bytes += len(part)
                    progress("download", done_bytes, size_bytes)


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON of an answer; raises ExportError with what a problem document says."""
    try:
        content: Any = await response.json(content_type=None)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ExportError(
            f"{response.url} answered {response.status} without JSON", "is this the address of the backend?"
        )
    if response.status >= 400:
        raise _told(content)
    return content


def _waiting(problem: dict[str, Any]) -> str:
    hint = f"; {problem['hint']}" if problem.get("hint") else ""
    return f"waiting: {problem['detail']}{hint}"


def _told(problem: dict[str, Any]) -> ExportError:
    field = f" ({problem['field']})" if problem.get("field") else ""
    return ExportError(f"{problem.get('detail', 'the backend refused')}{field}", problem.get("hint"))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack what may come from anywhere: the data filter keeps every member below `folder`."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ExportError(f"the archive can't be unpacked: {error}", "run the command again") from error


def _put(unpacked: Path, target: Path, *, is_dataset: bool) -> None:
    """Move the one folder of the archive to `target`."""
    contents = list(unpacked.iterdir())
    if len(contents) != 1 or not contents[0].is_dir():
        raise ExportError("the archive does not hold a single folder")
    if is_dataset and not (contents[0] / "meta" / "info.json").is_file():
        raise ExportError("the archive holds no dataset")
    check_free(target)
    shutil.rmtree(target, ignore_errors=True)
    contents[0].rename(target)


def check_free(target: Path) -> None:
    """Raise ExportError if something is at `target` already; an empty folder is not in the way."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(
            f"{target} already exists and is not overwritten",
            "remove it, or choose another --root or --repo_id",
        )
