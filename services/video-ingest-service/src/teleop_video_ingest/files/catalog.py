"""What is stored under which name: video chunks of sessions, files of datasets."""

import asyncio
from collections.abc import Collection
from uuid import UUID

import asyncpg
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import check_dataset, check_session
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_runtime.store import ChecksumMismatch, PathTaken, Store
from teleop_schema.errors import (
    BackendError,
    BadInput,
    BadRobotId,
    DatasetErased,
    NoSpace,
    SessionErased,
)
from teleop_schema.files import DatasetFile, Receipt, VideoFile
from teleop_schema.identifiers import check_camera_key, check_dataset_name, check_file_path, check_robot_id
from teleop_schema.instants import us_of

from teleop_video_ingest.errors import ChunkConflict, NamesOverlap, ObjectGone, RobotMismatch, UnknownSession
from teleop_video_ingest.files.chunk_notes import note_chunk
from teleop_video_ingest.files.dataset_notes import note_dataset
from teleop_video_ingest.files.erased import drop_refused
from teleop_video_ingest.files.placement import outside
from teleop_video_ingest.files.probe import Prober
from teleop_video_ingest.metrics import QUARANTINED, STORED_BYTES, STORED_FILES
from teleop_video_ingest.model.tree import dataset_path, video_path
from teleop_video_ingest.model.worker_messages import Probed
from teleop_video_ingest.tables.dataset_table import add_revision, check_apart, ensure_dataset, newest_file
from teleop_video_ingest.tables.look_table import note_look, note_slow
from teleop_video_ingest.tables.object_table import (
    damage_of,
    has_size,
    keep_object,
    lock_damaged,
    lock_path,
    names_of,
    note_sound,
    sent_by,
)
from teleop_video_ingest.tables.usage_table import add_bytes
from teleop_video_ingest.tables.video_table import SessionRow, add_chunk, find_chunk, find_session

log = get_logger(__name__)

# Time limit for one row by its key.
READ_TIMEOUT_S = 10.0
# Time limit for waiting for another replica with the same file, and for naming it in the tree.
WRITE_TIMEOUT_S = 60.0
# A check takes milliseconds, and starting its process a second on a busy machine; and an export may be wanted
# at once. If others are ahead of it for longer, its sender gets the receipt before, because the bytes
# are safe; whoever asks then learns that they were not checked yet.
RECEIPT_WAITS_S = 10.0
LATER = Probed(problem="not checked yet: it has just arrived", looked=False)


class Catalog:
    """The stored files, and how new ones are added. Any number of replicas may use it at once."""

    def __init__(self, pool: Pool, store: Store, prober: Prober) -> None:
        self._pool = pool
        self._store = store
        self._prober = prober

    async def find(self, file: VideoFile | DatasetFile) -> Receipt | None:
        """Receipt of `file` if it is stored under that name; None if it is not, or is known to be damaged.

        Raises refusals that are possible before bytes are sent: BadInput, UnknownSession, SessionErased,
        DatasetErased, RobotMismatch, ChunkConflict, NamesOverlap.
        """
        check_names(file)
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            receipt = await _find(connection, file)
            return None if await damage_of(connection, file.sha256) is not None else receipt

    async def adopt(
        self, file: VideoFile | DatasetFile, *, chunks: bytes = b"", robot_ids: Collection[str] | None
    ) -> Receipt | None:
        """Add `file` if the store has its bytes, and return its receipt; None if they have to be sent.

        They may be there under another name, or because a process died before it could register them. Bytes
        that are known to be damaged have to be sent again.

        chunks     its content-defined chunks as in FilePlan
        robot_ids  whose files the caller may read: whoever knows the hash of others' bytes, but does not have
                   them, does not get them in this way. None: all
        raises     as `find` does
        """
        if await self._store.size(file.sha256) != file.size_bytes:
            return None
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            if await damage_of(connection, file.sha256) is not None:
                return None
            if robot_ids is not None and not await sent_by(connection, file.sha256, robot_ids):
                return None
        try:
            return (await self.accept(file, chunks=chunks))[0]
        # Swept between the look and the lock: its bytes have to be sent after all.
        except ObjectGone:
            return None

    async def is_of(self, sha256: str, robot_id: str) -> bool:
        """Whether the robot has a file with these bytes already."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            return await sent_by(connection, sha256, [robot_id])

    async def has_size(self, size_bytes: int, robot_id: str) -> bool:
        """Whether the robot has a file of that size already."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            return await has_size(connection, size_bytes, robot_id)

    async def base_of(self, file: VideoFile | DatasetFile) -> tuple[str, bytes] | None:
        """(sha256, chunk records) of the current content at the path of `file`, to send only what differs.

        None if there is no content, or none that could be compared.
        """
        if isinstance(file, VideoFile):
            return None
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            row = await newest_file(connection, file.robot_id, file.dataset, file.path)
        if row is None or not row["chunks"] or row["damage"] is not None:
            return None
        return row["sha256"], row["chunks"]

    async def accept(self, file: VideoFile | DatasetFile, *, chunks: bytes = b"") -> tuple[Receipt, bool]:
        """Receipt of `file`, whose bytes the store has just checked, and whether it is new.

        chunks  its content-defined chunks as in FilePlan
        raises  as `find` does; ObjectGone if the store does not have the bytes
        """
        check_names(file)
        # First, as a file whose object is known to be damaged is found as not stored.
        await self._heal(file)
        try:
            if isinstance(file, VideoFile):
                receipt, new = await self._accept_video(file, chunks)
            else:
                receipt, new = await self._accept_dataset_file(file, chunks)
        except (SessionErased, DatasetErased):
            # Erased while it was on its way: its bytes must not stay behind.
            await drop_refused(self._pool, self._store, file.sha256)
            raise
        if new:
            STORED_FILES.labels(receipt.kind).inc()
            STORED_BYTES.labels(receipt.kind).inc(receipt.size_bytes)
            log.info("stored", kind=receipt.kind, path=receipt.path, size_bytes=receipt.size_bytes)
        return receipt, new

    async def _accept_video(self, file: VideoFile, chunks: bytes) -> tuple[Receipt, bool]:
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            session = await _session_of(connection, file)
            if receipt := await _find_video(connection, session, file):
                return receipt, False
        await self._check_stored(file)
        # It goes on, if its sender leaves or is answered before its end.
        look = self._prober.go_on(self._prober.look(self._store, file))
        await asyncio.wait([look], timeout=RECEIPT_WAITS_S)
        probed = look.result() if look.done() else LATER
        path = video_path(file.robot_id, session.id, file.camera_key, file.chunk_index)
        async with transaction(self._pool, timeout_s=WRITE_TIMEOUT_S) as connection:
            await check_session(connection, file.session, robot_id=file.robot_id, hold=session.stream)
            # Two replicas may have the same chunk; the second one finds the first's row.
            await lock_path(connection, path)
            if receipt := await _find_video(connection, session, file):
                return receipt, False
            await self._publish(connection, file, path, chunks)
            row = await add_chunk(connection, session, file, path, probed)
            # Within the transaction: a row that exists is also in the store, from where it can be adopted
            # again.
            await note_chunk(connection, self._store, row["id"])
            await add_bytes(connection, file.robot_id, file.size_bytes)
        if probed is LATER:
            self._prober.go_on(self._note(look, row["id"], path))
        else:
            _tell(path, probed)
        return _video_receipt(file, session, row), True

    async def _note(self, look: asyncio.Task[Probed], chunk_id: int, path: str) -> None:
        """Store the result of a check that nobody waited for; if that fails, a later check finds the same."""
        try:
            probed = await look
            async with transaction(self._pool, timeout_s=WRITE_TIMEOUT_S) as connection:
                if probed.slow:
                    await note_slow(connection, chunk_id)
                if probed.looked and await note_look(connection, chunk_id, probed) is not None:
                    await note_chunk(connection, self._store, chunk_id)
        except BackendError as error:
            log.warning("video will be checked later", path=path, problem=error.detail)
            return
        _tell(path, probed)

    async def _accept_dataset_file(self, file: DatasetFile, chunks: bytes) -> tuple[Receipt, bool]:
        path = dataset_path(file.robot_id, file.dataset, file.path)
        async with transaction(self._pool, timeout_s=WRITE_TIMEOUT_S) as connection:
            await check_dataset(connection, file.robot_id, file.dataset, hold=True)
            await lock_path(connection, path)
            if receipt := await _find_dataset_file(connection, file):
                return receipt, False
            dataset_id = await check_apart(connection, file.robot_id, file.dataset)
            if dataset_id is None:
                # Only by the first file of a dataset, so that the others need not lock its row.
                dataset_id = await ensure_dataset(connection, file.robot_id, file.dataset)
                await note_dataset(self._store, file.robot_id, file.dataset)
            await self._publish(connection, file, path, chunks)
            row = await add_revision(connection, dataset_id, file)
            await add_bytes(connection, file.robot_id, file.size_bytes)
        return _dataset_receipt(file, row), True

    async def _publish(
        self, connection: Connection, file: VideoFile | DatasetFile, path: str, chunks: bytes
    ) -> None:
        """Bind the object to the tree: lock its row, check its bytes, and point its name to them."""
        # Locked before its bytes are checked: the sweep removes no object whose row somebody holds.
        await keep_object(connection, file.sha256, file.size_bytes, chunks)
        await self._check_stored(file)
        try:
            await self._store.name(path, file.sha256)
        except PathTaken as taken:
            hint = "a name stays a file or a folder for good: use another name for the new one"
            raise PathTaken(taken.detail, field="path", hint=hint) from None

    async def _heal(self, file: VideoFile | DatasetFile) -> None:
        """If the object was damaged and its bytes have arrived again, give them to every name of it."""
        async with transaction(self._pool, timeout_s=WRITE_TIMEOUT_S) as connection:
            if await lock_damaged(connection, file.sha256):
                await self._check_stored(file)
                for path in await names_of(connection, file.sha256):
                    await self._store.name(path, file.sha256)
                await note_sound(connection, [file.sha256])
                log.info("damage healed", sha256=file.sha256)

    async def _check_stored(self, file: VideoFile | DatasetFile) -> None:
        if await self._store.size(file.sha256) != file.size_bytes:
            raise ObjectGone(field="sha256")


# What a file can be refused for once it is announced, or its bytes have come.
ACCEPT_ERRORS: tuple[type[BackendError], ...] = (
    BadInput,
    BadRobotId,
    UnknownSession,
    SessionErased,
    DatasetErased,
    RobotMismatch,
    ChunkConflict,
    NamesOverlap,
    PathTaken,
    ObjectGone,
    ChecksumMismatch,
    NoSpace,
)


def _tell(path: str, probed: Probed) -> None:
    if not probed.looked:
        log.warning("video will be checked later", path=path, problem=probed.problem)
    elif probed.problem is not None:
        QUARANTINED.inc()
        log.warning("video quarantined", path=path, problem=probed.problem)


def check_names(file: VideoFile | DatasetFile) -> None:
    """Raise BadInput, naming the field, unless every name in `file` may become part of a path."""
    check_robot_id(file.robot_id)
    if isinstance(file, VideoFile):
        check_camera_key(file.camera_key)
    else:
        check_dataset_name(file.dataset)
        check_file_path(file.path)


async def _session_of(connection: Connection, file: VideoFile) -> SessionRow:
    await check_session(connection, file.session, robot_id=file.robot_id)
    session = await find_session(connection, file.session)
    if session is None or (session.robot_id != file.robot_id and not isinstance(file.session, UUID)):
        # Numbers can be tried one after the other: whether another robot has that one is not said.
        raise UnknownSession(f"robot {file.robot_id!r} has no session {file.session}", field="session")
    if session.robot_id != file.robot_id:
        raise RobotMismatch(f"session {session.id} is not of robot {file.robot_id!r}", field="robot_id")
    return session


async def _find(connection: Connection, file: VideoFile | DatasetFile) -> Receipt | None:
    if isinstance(file, VideoFile):
        return await _find_video(connection, await _session_of(connection, file), file)
    await check_dataset(connection, file.robot_id, file.dataset, hold=False)
    receipt = await _find_dataset_file(connection, file)
    if receipt is None:
        await check_apart(connection, file.robot_id, file.dataset)
    return receipt


async def _find_video(connection: Connection, session: SessionRow, file: VideoFile) -> Receipt | None:
    row = await find_chunk(connection, session.id, file.camera_key, file.chunk_index)
    if row is None:
        return None
    # A chunk never changes: what was recorded once is evidence. Another file needs another index.
    if row["sha256"] != file.sha256:
        raise ChunkConflict(
            f"chunk {file.chunk_index} of camera {file.camera_key!r} of session {session.id} "
            f"is already stored with SHA-256 {row['sha256']}",
            field="chunk_index",
        )
    _check_same_times(file, row)
    return _video_receipt(file, session, row)


def _check_same_times(file: VideoFile, row: asyncpg.Record) -> None:
    """Raise ChunkConflict if pictures without their own times would move: they stay where they are.

    A sender that wants to correct a chunk's times must not be told that this was done.
    """
    if file.frames is not None or row["frame_indices"] is not None:
        return
    for field, told_us, stored in (
        ("start_timestamp", file.start_us, row["start_timestamp"]),
        ("end_timestamp", file.end_us, row["end_timestamp"]),
    ):
        if told_us != us_of(stored):
            raise ChunkConflict(
                f"chunk {file.chunk_index} of camera {file.camera_key!r} is already stored with "
                f"{field} {stored.isoformat()}, which can't change",
                field=field,
                hint=f"remove the stored one (DELETE /videos/{row['id']}), then send it again",
            )


async def _find_dataset_file(connection: Connection, file: DatasetFile) -> Receipt | None:
    row = await newest_file(connection, file.robot_id, file.dataset, file.path)
    if row is None or row["sha256"] != file.sha256:
        return None
    return _dataset_receipt(file, row)


def _video_receipt(file: VideoFile, session: SessionRow, row: asyncpg.Record) -> Receipt:
    return Receipt(
        kind="video",
        robot_id=file.robot_id,
        path=row["file_path"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        stored_at=row["stored_at"],
        id=row["id"],
        quarantine=row["quarantine"],
        warning=outside(session, row),
    )


def _dataset_receipt(file: DatasetFile, row: asyncpg.Record) -> Receipt:
    return Receipt(
        kind="dataset",
        robot_id=file.robot_id,
        path=dataset_path(file.robot_id, file.dataset, file.path),
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        stored_at=row["stored_at"],
    )
