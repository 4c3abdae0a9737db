"""How much of the store each robot may take.

What is stored is counted in the database, so that all replicas know it; what is on its way is reserved by the
uploads that are open.
"""

from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_schema.files import Quota
from teleop_schema.words import counted, size_text

from teleop_video_ingest.errors import QuotaReached
from teleop_video_ingest.metrics import NEAR_QUOTA
from teleop_video_ingest.tables.usage_table import (
    count_usage,
    find_usage,
    how_many_over,
    robots_to_count,
)

SETTING = "LEROBOT_BACKEND_ROBOT_QUOTA_GB"
# Robots hear of it from here on; before, it does not matter how much they take exactly.
WARN_AT = 0.9
# Near the end, a count may be this old: what was removed is noticed so soon. A million files take seconds.
COUNT_EVERY_S = 30.0
LOOK_EVERY_S = 60.0
# Of the others, what people see may be this old where something was removed.
COUNT_OTHERS_EVERY_S = 3600.0
READ_TIMEOUT_S = 10.0
# Counting a million files takes seconds, and more beside those who write.
COUNT_TIMEOUT_S = 120.0


class Quotas:
    """Says whether a robot may send more."""

    def __init__(self, pool: Pool, default_bytes: int | None) -> None:
        """
        default_bytes  that the files of a robot may take, those that several of its files share counted once,
                       unless it has a limit of its own; None: any amount
        """
        self._pool = pool
        self._default_bytes = default_bytes
        self._over = 0

    async def check(self, robot_id: str, size_bytes: int, begun_bytes: int) -> None:
        """Raise QuotaReached unless a file fits in addition to those that open uploads of the robot bring."""
        used_bytes, limit_bytes = await self._used(robot_id, size_bytes + begun_bytes)
        if limit_bytes is None or used_bytes + begun_bytes + size_bytes <= limit_bytes:
            return
        coming = f", {size_text(begun_bytes)} are on their way" if begun_bytes else ""
        raise _reached(
            f"the files of {robot_id} take {size_text(used_bytes)} of the {size_text(limit_bytes)} that they "
            f"may{coming}, and this one has {size_text(size_bytes)}",
            limit_bytes,
        )

    async def near(self, robot_id: str) -> Quota | None:
        """What to tell a robot that has nearly used its quota, or all of it; None: it has not."""
        used_bytes, limit_bytes = await self._used(robot_id, 0)
        if limit_bytes is None or used_bytes < WARN_AT * limit_bytes:
            return None
        return Quota(used_bytes, limit_bytes)

    async def look(self) -> None:
        """Count the robots that have nearly used their quota again, and now and then the others, and report
        how many there are."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            robots = await robots_to_count(
                connection, self._default_bytes, WARN_AT, COUNT_EVERY_S, COUNT_OTHERS_EVERY_S
            )
        for robot_id in robots:
            await self._count(robot_id)
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            near = await how_many_over(connection, self._default_bytes, WARN_AT)
            self._over = await how_many_over(connection, self._default_bytes, 1.0)
        NEAR_QUOTA.labels("nearly_used").set(near - self._over)
        NEAR_QUOTA.labels("used").set(self._over)

    async def check_all(self) -> None:
        """For `/readyz`, which anybody may read; raises if the files of some robots don't fit any more."""
        if self._over:
            raise RuntimeError(
                f"{counted(self._over, 'robot')} may not send more files before there is room: "
                "`robots list` shows what each takes, and may"
            )

    async def _used(self, robot_id: str, coming_bytes: int) -> tuple[int, int | None]:
        """What the robot's files take, as exactly as it matters now, and what they may; None: any amount."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            usage = await find_usage(connection, robot_id)
        limit_bytes = self._default_bytes if usage.limit_bytes is None else usage.limit_bytes
        if limit_bytes is None:
            return usage.used_bytes, None
        is_near = usage.used_bytes + coming_bytes >= WARN_AT * limit_bytes
        if usage.age_s is None or (is_near and usage.age_s > COUNT_EVERY_S):
            return await self._count(robot_id), limit_bytes
        return usage.used_bytes, limit_bytes

    async def _count(self, robot_id: str) -> int:
        async with transaction(self._pool, timeout_s=COUNT_TIMEOUT_S) as connection:
            return await count_usage(connection, robot_id)


def _reached(detail: str, limit_bytes: int) -> QuotaReached:
    return QuotaReached(
        detail,
        field="robot_id",
        limit=limit_bytes,
        hint="the robot keeps its data, and sends it once there is room: remove some of what the backend has "
        f"of it, or let it take more (robots quota, or {SETTING} for all robots)",
    )
