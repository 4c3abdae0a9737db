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
    robots_over,
)

SETTING = "LEROBOT_BACKEND_ROBOT_QUOTA_GB"
# Robots hear of it from here on; before, it does not matter how much they take exactly.
WARN_AT = 0.9
# Near the end, a count may be this old: what was removed is noticed so soon. A million files take seconds.
COUNT_EVERY_S = 30.0
LOOK_EVERY_S = 60.0
READ_TIMEOUT_S = 10.0
COUNT_TIMEOUT_S = 120.0


class Quotas:
    """Says whether a robot may send more."""

    def __init__(self, pool: Pool, limit_bytes: int) -> None:
        """
        limit_bytes  that a robot's files may take, those that several of its files share counted once
        """
        self._pool = pool
        self._limit_bytes = limit_bytes
        self._over = 0

    async def check(self, robot_id: str, size_bytes: int, begun_bytes: int) -> None:
        """Raise QuotaReached unless a file fits in addition to those that open uploads of the robot bring."""
        used_bytes = await self._used(robot_id, size_bytes + begun_bytes)
        if used_bytes + begun_bytes + size_bytes <= self._limit_bytes:
            return
        used, may = size_text(used_bytes), size_text(self._limit_bytes)
        coming = f", {size_text(begun_bytes)} are on their way" if begun_bytes else ""
        raise QuotaReached(
            f"the files of {robot_id} take {used} of the {may} that they may{coming}, "
            f"and this one has {size_text(size_bytes)}",
            field="robot_id",
            limit=self._limit_bytes,
            hint="the robot keeps its data, and sends it once there is room: remove some of what the "
            f"backend has of it, or raise {SETTING}",
        )

    async def near(self, robot_id: str) -> Quota | None:
        """What to tell a robot that has nearly used its quota, or all of it; None: it has not."""
        used_bytes = await self._used(robot_id, 0)
        return Quota(used_bytes, self._limit_bytes) if used_bytes >= self._warn_bytes else None

    async def look(self) -> None:
        """Count the robots that have nearly used their quota again, and report how many there are."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            robots = await robots_over(connection, self._warn_bytes, COUNT_EVERY_S)
        for robot_id in robots:
            await self._count(robot_id)
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            near = await how_many_over(connection, self._warn_bytes)
            self._over = await how_many_over(connection, self._limit_bytes)
        NEAR_QUOTA.labels("nearly_used").set(near - self._over)
        NEAR_QUOTA.labels("used").set(self._over)

    async def check_all(self) -> None:
        """For `/readyz`, which anybody may read; raises if the files of some robots don't fit any more."""
        if self._over:
            raise RuntimeError(
                f"{counted(self._over, 'robot')} may not send more files than "
                f"{size_text(self._limit_bytes)} ({SETTING}), and keeps the rest until there is room"
            )

    @property
    def _warn_bytes(self) -> int:
        return int(WARN_AT * self._limit_bytes)

    async def _used(self, robot_id: str, coming_bytes: int) -> int:
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            usage = await find_usage(connection, robot_id)
        if usage is None or usage.age_s is None:
            return await self._count(robot_id)
        is_near = usage.used_bytes + coming_bytes >= self._warn_bytes
        return await self._count(robot_id) if is_near and usage.age_s > COUNT_EVERY_S else usage.used_bytes

    async def _count(self, robot_id: str) -> int:
        async with transaction(self._pool, timeout_s=COUNT_TIMEOUT_S) as connection:
            return await count_usage(connection, robot_id)
