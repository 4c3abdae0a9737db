"""The backend's part for files in memory, which can be told to misbehave; the real one is a process."""

import hashlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from urllib.parse import unquote
from uuid import uuid4

import msgspec
from aiohttp import web
from teleop_schema.files import (
    CHUNK_RECORD_BYTES,
    DatasetFile,
    DatasetVersion,
    FilePlan,
    Manifest,
    Planned,
    Receipt,
    VideoFile,
    digest_of,
)
from teleop_schema.holding import Held, HeldVersion, HeldVideo, Lacking, ranges_of


class StoredUpload:
    """An upload on its way."""

    def __init__(
        self, plan: FilePlan, base: bytes, base_chunks: bytes, missing: tuple[tuple[int, int], ...]
    ) -> None:
        self.plan = plan
        self.base = base
        self.base_chunks = base_chunks
        self.missing = missing
        self.body = bytearray()

    @property
    def length(self) -> int:
        """How many bytes are still to be sent at its beginning: those that no base has."""
        return sum(length for _, length in self.missing)


FINAL_CODES = frozenset({"bad_input", "body_too_large", "chunk_conflict", "conflict"})


class FileBackend:
    """Keeps files as the real service does, over the real protocol.

    received_bytes  of all upload bodies
    cut_after       connections are reset after so many bytes of an upload, one connection each
    refusals        (method, path prefix, status, code): told once each instead of doing what was asked
    retryable       whether an error of that code is told to be worth another try; None: it is not told
    before          called before each request is handled
    """

    def __init__(self) -> None:
        self.url = ""
        self.installation = uuid4()
        self.received_bytes = 0
        self.cut_after: deque[int] = deque()
        self.refusals: list[tuple[str, str, int, str]] = []
        self.retryable: Callable[[str], bool | None] = lambda code: code not in FINAL_CODES
        self.before: Callable[[web.Request], Awaitable[None]] | None = None
        self.requests: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.files: dict[tuple[str, ...], FilePlan] = {}
        self.versions: dict[tuple[str, str], list[Manifest]] = {}
        self.uploads: dict[str, StoredUpload] = {}
        self.damaged: set[str] = set()
        self._names = count(1)

    def content(self, robot_id: str, dataset: str, path: str) -> bytes:
        """What a path of a dataset holds now."""
        return self.objects[self.files[robot_id, dataset, path].file.sha256]

    def paths(self, robot_id: str, dataset: str) -> list[str]:
        """Paths of a dataset that were uploaded."""
        return sorted(key[2] for key in self.files if key[:2] == (robot_id, dataset))

    def stored(self, robot_id: str, dataset: str) -> dict[str, bytes]:
        """Path -> content of what a dataset holds now."""
        return {path: self.content(robot_id, dataset, path) for path in self.paths(robot_id, dataset)}

    def versions_of(self, robot_id: str, dataset: str) -> list[Manifest]:
        """Versions of a dataset, in order."""
        return self.versions.get((robot_id, dataset), [])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request: refused or cut off as told, else answered as the real service does."""
        self.requests.append(f"{request.method} {request.path}")
        if self.before is not None:
            await self.before(request)
        for refusal in self.refusals:
            method, prefix, status, code = refusal
            if request.method == method and request.path.startswith(prefix):
                self.refusals.remove(refusal)
                return self._problem(status, code, "told to")
        if (request.method, request.path) == ("OPTIONS", "/files"):
            return web.Response(status=204)
        if request.path == "/files/plan":
            return self._plan(msgspec.json.decode(await request.read(), type=FilePlan))
        if request.path == "/files/known":
            return self._known(msgspec.json.decode(await request.read(), type=Held))
        if request.path.startswith("/files/"):
            return await self._upload(request, request.path.removeprefix("/files/"))
        if request.path.startswith("/datasets/") and request.path.endswith("/verify"):
            return self._verify(request.path, int(request.query["version"]))
        if request.path.startswith("/datasets/") and request.path.endswith("/versions"):
            return self._commit(request.path, msgspec.json.decode(await request.read(), type=Manifest))
        return self._problem(404, "not_found", f"nothing exists at {request.path}")

    def _problem(self, status: int, code: str, detail: str) -> web.Response:
        told = {"type": f"urn:lerobot-backend:{code}", "status": status, "code": code, "detail": detail}
        if (retryable := self.retryable(code)) is not None:
            told["retryable"] = retryable
        body = msgspec.json.encode(told)
        return web.Response(status=status, body=body, content_type="application/problem+json")

    def _plan(self, plan: FilePlan) -> web.Response:
        known = self.files.get(_key(plan.file))
        if known is not None and known.file.sha256 == plan.file.sha256:
            return _json(Planned(receipt=_receipt(plan.file)))
        if known is not None and isinstance(plan.file, VideoFile):
            return self._problem(409, "chunk_conflict", "another chunk has that key")
        for name, upload in self.uploads.items():
            if upload.plan.file == plan.file:
                return _json(Planned(upload=f"/files/{name}", missing=upload.missing))
        base, base_chunks = b"", b""
        missing: tuple[tuple[int, int], ...] = ((0, plan.file.size_bytes),) if plan.file.size_bytes else ()
        if known is not None and plan.chunks and known.chunks:
            base, base_chunks = self.objects[known.file.sha256], known.chunks
            missing = _missing(plan.chunks, base_chunks)
        name = str(next(self._names))
        self.uploads[name] = StoredUpload(plan, base, base_chunks, missing)
        return _json(Planned(upload=f"/files/{name}", missing=missing))

    def _known(self, held: Held) -> web.Response:
        """As if every stream had all of its frames here."""
        stored = {
            HeldVersion(name, digest_of(manifest))
            for (robot_id, name), manifests in self.versions.items()
            for manifest in manifests
            if robot_id == held.robot_id and not any(file.sha256 in self.damaged for file in manifest.files)
        }
        lacking = []
        for video in held.videos:
            numbers = [number for first, end in video.chunks for number in range(first, end)]
            absent = [n for n in numbers if not self._has_chunk(str(video.stream), video.camera_key, n)]
            if absent:
                lacking.append(HeldVideo(video.stream, video.camera_key, ranges_of(absent)))
        versions = tuple(each for each in held.versions if each not in stored)
        return _json(Lacking(installation=self.installation, versions=versions, videos=tuple(lacking)))

    def _has_chunk(self, stream: str, camera_key: str, number: int) -> bool:
        return any(key[2:] == (stream, camera_key, str(number)) for key in self.files)

    def forget(self) -> None:
        """Become another backend, which knows nothing."""
        self.installation = uuid4()
        for known in (self.objects, self.files, self.versions, self.uploads):
            known.clear()

    async def _upload(self, request: web.Request, name: str) -> web.StreamResponse:
        upload = self.uploads.get(name)
        if upload is None:
            return self._problem(404, "unknown_upload", "there is no such upload")
        if request.method == "DELETE":
            del self.uploads[name]
            return web.Response(status=204, headers={"Tus-Resumable": "1.0.0"})
        if request.method == "PATCH":
            if int(request.headers["Upload-Offset"]) != len(upload.body):
                return self._problem(409, "offset_mismatch", "offsets differ")
            await self._receive(request, upload)
            if len(upload.body) == upload.length and not self._finish(name, upload):
                return self._problem(460, "checksum_mismatch", "the bytes are other ones")
        headers = {"Upload-Offset": str(len(upload.body)), "Tus-Resumable": "1.0.0"}
        return web.Response(status=204 if request.method == "PATCH" else 200, headers=headers)

    async def _receive(self, request: web.Request, upload: StoredUpload) -> None:
        left = self.cut_after.popleft() if self.cut_after else None
        async for piece in request.content.iter_any():
            kept = piece if left is None else piece[:left]
            upload.body += kept
            self.received_bytes += len(kept)
            if left is not None:
                left -= len(kept)
                if left == 0:
                    assert request.transport is not None
                    request.transport.abort()
                    raise ConnectionResetError("told to")

    def _finish(self, name: str, upload: StoredUpload) -> bool:
        del self.uploads[name]
        content = _assemble(upload)
        file = upload.plan.file
        if hashlib.sha256(content).hexdigest() != file.sha256 or len(content) != file.size_bytes:
            return False
        self.objects[file.sha256] = content
        self.damaged.discard(file.sha256)
        self.files[_key(file)] = upload.plan
        return True

    def _verify(self, path: str, version: int) -> web.Response:
        """Of a damaged object nothing is kept; until it is looked at, nobody knows."""
        robot_id, dataset = _dataset_of(path, "/verify")
        objects = {file.sha256: file.path for file in self.versions[robot_id, dataset][version - 1].files}
        damaged = []
        for sha256, name in objects.items():
            content = self.objects.get(sha256)
            if content is None or hashlib.sha256(content).hexdigest() != sha256:
                damaged.append({"path": name, "sha256": sha256, "damage": "it is not what it was"})
                self.damaged.add(sha256)
                self.objects.pop(sha256, None)
                self.files = {key: plan for key, plan in self.files.items() if plan.file.sha256 != sha256}
        return _json({"checked": len(objects), "damaged": damaged})

    def _commit(self, path: str, manifest: Manifest) -> web.Response:
        robot_id, dataset = _dataset_of(path, "/versions")
        versions = self.versions.setdefault((robot_id, dataset), [])
        if not versions or versions[-1] != manifest:
            lacking = [file.path for file in manifest.files if file.sha256 not in self.objects]
            if lacking:
                return self._problem(409, "files_missing", f"{lacking[:100]} are not there")
            versions.append(manifest)
        version = DatasetVersion(
            robot_id=robot_id,
            dataset=dataset,
            version=len(versions),
            source="robot",
            created_at=datetime.now(UTC),
            total_episodes=manifest.total_episodes,
            total_frames=manifest.total_frames,
            finalised=manifest.finalised,
            files=len(manifest.files),
            size_bytes=sum(file.size_bytes for file in manifest.files),
        )
        return _json(version)


@asynccontextmanager
async def file_backend() -> AsyncIterator[FileBackend]:
    """A backend on a port of its own, empty."""
    backend = FileBackend()
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", backend.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield backend
    finally:
        await runner.cleanup()


def _dataset_of(path: str, suffix: str) -> tuple[str, str]:
    robot_id, dataset = unquote(path).removeprefix("/datasets/").removesuffix(suffix).split("/", 1)
    return robot_id, dataset


def _key(file: VideoFile | DatasetFile) -> tuple[str, ...]:
    if isinstance(file, DatasetFile):
        return file.robot_id, file.dataset, file.path
    return file.robot_id, "sessions", str(file.session), file.camera_key, str(file.chunk_index)


def _receipt(file: VideoFile | DatasetFile) -> Receipt:
    return Receipt(
        kind="dataset" if isinstance(file, DatasetFile) else "video",
        robot_id=file.robot_id,
        path="/".join(_key(file)),
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        stored_at=datetime.now(UTC),
    )


def _missing(chunks: bytes, known: bytes) -> tuple[tuple[int, int], ...]:
    have = {record for record, _, _ in _records(known)}
    missing: list[tuple[int, int]] = []
    for record, offset, length in _records(chunks):
        if record in have:
            continue
        if missing and sum(missing[-1]) == offset:
            missing[-1] = missing[-1][0], missing[-1][1] + length
        else:
            missing.append((offset, length))
    return tuple(missing)


def _assemble(upload: StoredUpload) -> bytes:
    """The file: each chunk from the body if it was sent, else from the base."""
    if not upload.base:
        return bytes(upload.body)
    sent = {offset for start, size in upload.missing for offset in range(start, start + size)}
    base = {
        record: upload.base[offset : offset + length]
        for record, offset, length in _records(upload.base_chunks)
    }
    pieces, position = [], 0
    for record, offset, length in _records(upload.plan.chunks):
        if offset in sent:
            pieces.append(bytes(upload.body[position : position + length]))
            position += length
        else:
            pieces.append(base[record])
    return b"".join(pieces)


def _records(chunks: bytes) -> list[tuple[bytes, int, int]]:
    found, offset = [], 0
    for start in range(0, len(chunks), CHUNK_RECORD_BYTES):
        record = chunks[start : start + CHUNK_RECORD_BYTES]
        (length,) = struct.unpack_from("<I", record)
        found.append((record, offset, length))
        offset += length
    return found


def _json(answer: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
