"""Whether an upload may begin or go on: room in the store, open uploads and quota of a robot."""

from collections.abc import Iterable
from uuid import UUID

from teleop_runtime.store import Store
from teleop_schema.errors import BackendError
from teleop_schema.files import Quota

from teleop_video_ingest.errors import QuotaReached, TooManyUploads
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.model.announced import Announced
from teleop_video_ingest.tables.upload_table import OpenUpload, UploadTable
from teleop_video_ingest.uploads.quotas import Quotas

DAY_S = 86_400.0
# Lifetime of an upload that nobody continues: its robot may be switched off for days.
UNFINISHED_S = 7 * DAY_S
# Unfinished uploads of a robot: eight times what a sync-agent has at a time, for a week leaves some behind.
MAX_OPEN_UPLOADS = 256


class Admission:
    """Refuses bytes that there is no place for, before they come."""

    def __init__(
        self, table: UploadTable, store: Store, catalog: Catalog, max_open: int, quotas: Quotas | None
    ) -> None:
        """
        max_open  unfinished uploads that a robot may have
        quotas    None: robots have none
        """
        self._table = table
        self._store = store
        self._catalog = catalog
        self._max_open = max_open
        self._quotas = quotas

    async def near_quota(self, robot_id: str) -> Quota | None:
        """What to tell a robot that has nearly used its quota; None: it has not, or has none."""
        return await self._quotas.near(robot_id) if self._quotas else None

    async def check_room(self, size_bytes: int) -> None:
        """Raise NoSpace unless this many bytes fit in addition to those that open uploads have yet to
        receive."""
        begun = {each.id: each.takes_bytes for each in await self._table.opened()}
        await self._store.check_room(size_bytes, begun)

    async def check_announced(self, announced: Announced, size_bytes: int, *, whole: bool) -> None:
        """Raise QuotaReached before the bytes come, or go on coming, if the robot may not send so many.

        Bytes that it has sent already take no more. Without a SHA-256, they may be those only if it has a
        file of that size.

        whole  whether the file has that size; otherwise it has more
        """
        robot_id, sha256 = announced["robot_id"], announced.get("sha256")
        if sha256 is not None and await self._catalog.is_of(sha256, robot_id):
            return
        try:
            await self.check_quota(robot_id, size_bytes)
        except QuotaReached:
            known = sha256 is None and whole and await self._catalog.has_size(size_bytes, robot_id)
            if not known:
                raise

    async def admit(self, upload_id: UUID, robot_id: str) -> None:
        """Raise TooManyUploads, NoSpace or QuotaReached if an upload that was just added is one too many;
        it is then deleted.

        It is checked once it is there, so that none of several simultaneous ones is overlooked.
        """
        others = {each.id: each for each in await self._table.opened()}
        try:
            added = others.pop(upload_id, None)
            # It was finished or given up meanwhile, by another request with the same plan.
            if added is None:
                return
            if sum(each.robot_id == robot_id for each in others.values()) >= self._max_open:
                raise TooManyUploads(
                    f"{robot_id} has {self._max_open} unfinished uploads, which is the limit",
                    field="robot_id",
                    limit=self._max_open,
                    hint="continue them, or give them up with "
                    f"DELETE; uploads nobody continues expire after {UNFINISHED_S / DAY_S:g} days",
                )
            begun = {each.id: each.takes_bytes for each in others.values()}
            await self._store.check_room(added.takes_bytes, begun)
            await self.check_quota(robot_id, added.file_bytes, others.values())
        except BackendError:
            await self._table.delete(upload_id)
            raise

    async def check_quota(
        self, robot_id: str, size_bytes: int, others: Iterable[OpenUpload] | None = None
    ) -> None:
        """Raise QuotaReached unless the robot may send that much in addition to what `others` bring.

        others  uploads; None: all that are open
        """
        if self._quotas is None:
            return
        others = await self._table.opened() if others is None else others
        begun = sum(each.file_bytes for each in others if each.robot_id == robot_id)
        await self._quotas.check(robot_id, size_bytes, begun)
