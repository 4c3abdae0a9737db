"""Uploads from their announcement to the catalog."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.problems import as_problem
from teleop_runtime.store import (
    Checksum,
    ChecksumMismatch,
    ObjectMissing,
    OffsetMismatch,
    Store,
    UnknownUpload,
    UploadBusy,
)
from teleop_schema.errors import BackendError, BodyTooLarge
from teleop_schema.files import DatasetFile, FilePlan, Planned, Receipt, VideoFile

from teleop_video_ingest.errors import (
    BadTusHeader,
    ChunkConflict,
    UploadGone,
)
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.model.announced import LIMITS, SOME_SHA256, Announced, complete
from teleop_video_ingest.tables.upload_table import (
    OfferedUpload,
    PlannedUpload,
    Upload,
    UploadTable,
)
from teleop_video_ingest.uploads.admission import DAY_S, MAX_OPEN_UPLOADS, UNFINISHED_S, Admission
from teleop_video_ingest.uploads.plan import check_chunks, copied_ranges, missing_ranges
from teleop_video_ingest.uploads.quotas import Quotas
from teleop_video_ingest.uploads.tus import Creation, Patch

log = get_logger(__name__)

# Lifetime of a finished or given up upload, because its client may have missed the answer.
ENDED_S = DAY_S


class Uploads:
    """Receives the bytes of files, and hands whole files to the catalog.

    admission  refuses bytes that there is no place for
    """

    def __init__(
        self,
        table: UploadTable,
        store: Store,
        catalog: Catalog,
        *,
        max_open: int = MAX_OPEN_UPLOADS,
        quotas: Quotas | None = None,
    ) -> None:
        self._table = table
        self._store = store
        self._catalog = catalog
        self.admission = Admission(table, store, catalog, max_open, quotas)

    async def plan(self, plan: FilePlan, robot_ids: Collection[str] | None) -> Planned:
        """The receipt if the file is stored; otherwise which bytes to send where.

        robot_ids  whose files the caller may read, None: all; bytes that only others have sent must be sent

        The same plan again gives the same upload until it is finished. If an earlier upload of it resulted in
        something other than the file, all bytes must be sent.
        """
        await asyncio.to_thread(check_chunks, plan.chunks, plan.file.size_bytes)
        receipt = await self._catalog.find(plan.file)
        receipt = receipt or await self._catalog.adopt(plan.file, chunks=plan.chunks, robot_ids=robot_ids)
        quota = await self.admission.near_quota(plan.file.robot_id)
        if receipt is not None:
            return Planned(receipt=receipt, quota=quota)
        upload = await self._begin_planned(plan)
        try:
            receipt = await self._complete_if_there(upload)
        except ChecksumMismatch:
            if not upload.copied:
                raise
            # A new start copies nothing, because the bytes here did not match the chunks' hashes.
            upload = await self._begin_planned(plan)
        if receipt is not None:
            return Planned(receipt=receipt, quota=quota)
        missing = missing_ranges(upload.copied, plan.file.size_bytes)
        return Planned(upload=f"/files/{upload.id}", missing=tuple(missing), quota=quota)

    async def create(self, creation: Creation, announced: Announced, metadata: str) -> Upload:
        """A new upload of a file that tus metadata describes; refused here if possible."""
        _check_limit(announced, creation.length)
        await self.check(announced, creation.length)
        upload_id = uuid4()
        await self._table.add(
            upload_id,
            file=announced,
            metadata=metadata,
            length=creation.length,
            lasts_s=UNFINISHED_S,
        )
        # Before its place in the store, so that a refused upload leaves nothing there.
        await self.admission.admit(upload_id, announced["robot_id"])
        await self._store.begin(upload_id)
        upload = await self.find(upload_id)
        # No PATCH will come for it.
        if upload.length == 0:
            await self._complete(upload)
        return upload

    async def check(self, announced: Announced, length: int | None = None) -> None:
        """Raise every refusal that is possible before the file's bytes are there."""
        sha256 = announced.get("sha256", SOME_SHA256)
        size_bytes = LIMITS[announced["kind"]] if length is None else length
        try:
            await self._catalog.find(complete(announced, size_bytes=size_bytes, sha256=sha256))
        except ChunkConflict:
            # Without a SHA-256, only the bytes themselves show whether they differ.
            if "sha256" in announced:
                raise

    async def find(self, upload_id: UUID) -> Upload:
        """One upload; raises UnknownUpload, UploadGone."""
        upload = await self._table.find(upload_id)
        if upload is None:
            raise UnknownUpload(upload_id)
        if upload.problem is not None:
            raise UploadGone(
                f"this upload was given up: {upload.problem.detail}",
                field=upload.problem.field,
                hint="start again",
            )
        return upload

    async def offset(self, upload: Upload) -> int:
        """How many bytes of an upload are durable; if it is all of them, the file is stored now.

        A client that gets this number believes that its file is stored, but the process that received the
        last bytes may have died before that. Raises UnknownUpload, and why the file can't be stored.
        """
        offset = await self._staged(upload)
        if offset == upload.length and upload.finished_at is None:
            await self._complete(upload)
        return offset

    async def _staged(self, upload: Upload) -> int:
        if upload.finished_at is not None and upload.length is not None:
            return upload.length
        staged = await self._store.staged_bytes(upload.id)
        if staged is None:
            raise UnknownUpload(upload.id)
        return staged

    async def append(
        self, upload: Upload, patch: Patch, parts: AsyncIterator[bytes], content_length: int | None
    ) -> tuple[int, Upload]:
        """Add `parts`, and return the new offset; once all bytes are there, the file is stored.

        content_length  bytes of `parts` if known, so that too many are refused before they arrive
        """
        upload = await self._with_length(upload, patch)
        limit = upload.limit
        if upload.finished_at is not None and patch.offset != limit:
            raise OffsetMismatch(stored=limit, sent=patch.offset)
        if patch.offset + (content_length or 0) > limit:
            raise BodyTooLarge(f"more bytes than the {limit} of this upload", limit=limit)
        if upload.finished_at is not None:
            return limit, upload
        await self._store.check_room(content_length or 0)
        upload = replace(upload, expires_at=await self._table.postpone(upload.id, UNFINISHED_S))
        checksum = Checksum(*patch.checksum) if patch.checksum else None
        offset = await self._store.append(upload.id, patch.offset, parts, limit=limit, checksum=checksum)
        if offset == upload.length:
            await self._complete(upload)
        return offset, upload

    async def receive(
        self, parts: AsyncIterator[bytes], *, limit: int, tell: Callable[[], Announced]
    ) -> tuple[Receipt, bool]:
        """Receipt of a file that comes in one request, and whether it is new; if it is refused,
        nothing stays.

        tell  returns the description of the file, once `parts` have ended
        """
        upload_id = uuid4()
        # With a row from the start, so that the bytes of a process that dies here are swept away.
        await self._table.add(upload_id, lasts_s=ENDED_S)
        try:
            await self._store.begin(upload_id)
            size_bytes = await self._store.append(upload_id, 0, parts, limit=limit)
            announced = tell()
            sha256 = await self._store.digest(upload_id)
            _check_digest(announced, sha256)
            file = complete(announced, size_bytes=size_bytes, sha256=sha256)
            if await self._store.size(sha256) is None:
                # Refused here, so that it leaves no object without a name.
                await self._catalog.find(file)
            if not await self._catalog.is_of(sha256, file.robot_id):
                await self.admission.check_quota(file.robot_id, size_bytes)
            await self._store.finish(upload_id, sha256=sha256, size_bytes=size_bytes)
            return await self._catalog.accept(file)
        finally:
            await self.terminate(upload_id)

    async def terminate(self, upload_id: UUID) -> None:
        """Delete an upload and its bytes."""
        # First the bytes: without its row, nobody would look for them before a week has passed.
        await self._store.discard(upload_id)
        await self._table.delete(upload_id)

    async def sweep(self) -> int:
        """Delete expired uploads; returns how many."""
        swept = 0
        while expired := await self._table.expired():
            for upload_id in expired:
                await self.terminate(upload_id)
            swept += len(expired)
        return swept

    async def sweep_unknown(self) -> int:
        """Delete bytes of uploads that the database does not know, once they would have expired;
        returns how many.

        They belonged to another database or a lost state of this one, so nobody can continue them.
        """
        before, swept = datetime.now(UTC) - timedelta(seconds=UNFINISHED_S), 0
        async for upload_id, changed_at in self._store.list_uploads():
            if changed_at < before and not await self._table.is_known(upload_id):
                await self._store.discard(upload_id)
                swept += 1
        return swept

    async def _begin_planned(self, plan: FilePlan) -> PlannedUpload:
        """The open upload of a plan, which is added if there is none, with its place in the store."""
        plan_key = hashlib.sha256(msgspec.json.encode(plan.file)).hexdigest()
        upload = await self._table.find_planned(plan_key) or await self._add_planned(plan, plan_key)
        # Even for an existing one, because the process that added it may have died before this.
        await self._store.begin(upload.id)
        return upload

    async def _complete_if_there(self, upload: PlannedUpload) -> Receipt | None:
        """Receipt of an upload that lacks no bytes: it needs none, or a process died with it."""
        if await self._store.staged_bytes(upload.id) != upload.length:
            return None
        return await self._complete(upload)

    async def _add_planned(self, plan: FilePlan, plan_key: str) -> PlannedUpload:
        file = plan.file
        # A second time not: what was copied may have been the wrong bytes.
        base = None if await self._table.has_failed(plan_key) else await self._catalog.base_of(file)
        copied: list[tuple[int, int, int]] = []
        if base is not None:
            copied = await asyncio.to_thread(copied_ranges, plan.chunks, base[1])
        upload_id = uuid4()
        await self._table.add(
            upload_id,
            file=msgspec.to_builtins(file),
            length=file.size_bytes - sum(length for _, length, _ in copied),
            plan_key=plan_key,
            base=base[0] if base is not None and copied else None,
            copied=tuple(copied),
            chunks=plan.chunks,
            lasts_s=UNFINISHED_S,
        )
        upload = await self._table.find_planned(plan_key)
        if upload is None:
            # Of two requests with one plan, only one adds the upload.
            raise UploadBusy("another request has just finished this upload")
        if upload.id == upload_id:
            await self.admission.admit(upload_id, file.robot_id)
        return upload

    async def _with_length(self, upload: Upload, patch: Patch) -> Upload:
        """The upload with the length that the client tells now, if it had not told it before."""
        if patch.length is None or patch.length == upload.length:
            return upload
        if isinstance(upload, PlannedUpload) or upload.length is not None:
            raise BadTusHeader(
                f"this upload's length is {upload.length}", field="Upload-Length", limit=upload.length
            )
        _check_limit(upload.told, patch.length)
        offset = await self._staged(upload)
        if patch.length < offset:
            raise BadTusHeader("this upload already has more bytes", field="Upload-Length")
        await self.admission.check_room(patch.length - offset)
        await self.admission.check_quota(upload.told["robot_id"], patch.length)
        await self._table.set_length(upload.id, patch.length)
        return await self.find(upload.id)

    async def _complete(self, upload: Upload) -> Receipt:
        """Receipt of an upload whose bytes are all there; may be repeated until it succeeds."""
        try:
            receipt = await self._store_whole(upload)
        except BackendError as error:
            # The first two can succeed only in another upload: with other bytes, or without the missing base.
            if isinstance(error, ChecksumMismatch | ObjectMissing) or not error.retryable:
                await self._give_up(upload, error)
            raise
        # After the catalog: killed in between, the next question finds all bytes there and does it again.
        await self._table.finish(upload.id, ENDED_S)
        await self._store.discard(upload.id)
        return receipt

    async def _store_whole(self, upload: Upload) -> Receipt:
        if isinstance(upload, PlannedUpload):
            file, chunks, recipe = upload.file, upload.chunks, upload.recipe
        else:
            file, chunks, recipe = await self._offered_file(upload), b"", None
        await self._store.finish(upload.id, sha256=file.sha256, size_bytes=file.size_bytes, recipe=recipe)
        receipt, _ = await self._catalog.accept(file, chunks=chunks)
        return receipt

    async def _offered_file(self, upload: OfferedUpload) -> VideoFile | DatasetFile:
        """The file, now that all its bytes are there; raises why it is refused."""
        size_bytes, sha256 = upload.length or 0, upload.told.get("sha256")
        if sha256 is not None:
            return complete(upload.told, size_bytes=size_bytes, sha256=sha256)
        file = complete(upload.told, size_bytes=size_bytes, sha256=await self._store.digest(upload.id))
        # Values that could not be known before the bytes were there.
        await self._catalog.find(file)
        return file

    async def _give_up(self, upload: Upload, error: BackendError) -> None:
        log.warning("upload given up", upload=str(upload.id), code=error.code, detail=error.detail)
        await self._table.give_up(upload.id, as_problem(error), ENDED_S)
        await self._store.discard(upload.id)


def _check_limit(announced: Announced, length: int | None) -> None:
    limit = LIMITS[announced["kind"]]
    if length is not None and length > limit:
        raise BodyTooLarge(
            f"a {announced['kind']} file has at most {limit} bytes", field="Upload-Length", limit=limit
        )


def _check_digest(announced: Announced, sha256: str) -> None:
    if announced.get("sha256", sha256) != sha256:
        raise ChecksumMismatch(
            f"the SHA-256 of the received bytes is {sha256}, not {announced['sha256']}",
            field="sha256",
            hint="upload the file again",
        )
