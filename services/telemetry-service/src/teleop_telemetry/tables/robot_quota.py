"""Rows of `robot_quota`: how much each robot may take; video-ingest-service counts how much it does."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct
from teleop_runtime.postgres.pool import Pool, connected

TIMEOUT_S = 10.0

type Row = Mapping[str, Any]

USAGE = """
SELECT robot_id, u.robot_id IS NULL AS has_sent_none, u.used_bytes, u.counted_at, q.limit_bytes
  FROM (SELECT $1::text AS robot_id) asked
  LEFT JOIN robot_usage u USING (robot_id) LEFT JOIN robot_quota q USING (robot_id)
"""

ALL = """
SELECT robot_id, u.robot_id IS NULL AS has_sent_none, u.used_bytes, u.counted_at, q.limit_bytes
  FROM robot_usage u FULL JOIN robot_quota q USING (robot_id)
"""

SET = """
INSERT INTO robot_quota (robot_id, limit_bytes) VALUES ($1, $2)
ON CONFLICT (robot_id) DO UPDATE SET limit_bytes = excluded.limit_bytes, set_at = now()
"""

REMOVE = "DELETE FROM robot_quota WHERE robot_id = $1"


class RobotUsage(Struct):
    """What is kept of a robot's video and datasets, and how much that may be.

    used_bytes   of all kept versions, what several files share counted once; null: not counted yet
    limit_bytes  beyond it, new files are refused; null: any amount
    own_limit    whether the limit is the robot's own, and not that of all
    counted_at   when the files were counted; what was stored since is added, what was removed since is not
                 taken off
    """

    robot_id: str
    used_bytes: int | None
    limit_bytes: int | None
    own_limit: bool
    counted_at: datetime | None


class QuotaTable:
    """Writes `robot_quota`, and reads `robot_usage`."""

    def __init__(self, pool: Pool, default_bytes: int | None) -> None:
        """
        default_bytes  limit of a robot that has none of its own; None: any amount
        """
        self._pool = pool
        self._default_bytes = default_bytes

    async def usage(self, robot_id: str) -> RobotUsage:
        """What is known of one robot, whether or not it has ever sent anything."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            row = await connection.fetchrow(USAGE, robot_id)
        assert row is not None  # noqa: S101
        return self._told(dict(row))

    async def usages(self) -> dict[str, RobotUsage]:
        """The same of every robot that has sent files, or has a limit of its own."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(ALL)
        return {row["robot_id"]: self._told(dict(row)) for row in rows}

    def of_none(self, robot_id: str) -> RobotUsage:
        """What there is to say of a robot that is not among them."""
        return RobotUsage(robot_id, 0, self._default_bytes, own_limit=False, counted_at=None)

    async def set(self, robot_id: str, limit_bytes: int) -> None:
        """Give a robot a limit of its own."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(SET, robot_id, limit_bytes)

    async def remove(self, robot_id: str) -> None:
        """Let the limit of all be that of this robot, too; it need not have had another."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(REMOVE, robot_id)

    def _told(self, row: Row) -> RobotUsage:
        own, counted_at = row["limit_bytes"], row["counted_at"]
        used_bytes = None if counted_at is None else row["used_bytes"]
        return RobotUsage(
            row["robot_id"],
            0 if row["has_sent_none"] else used_bytes,
            self._default_bytes if own is None else own,
            own_limit=own is not None,
            counted_at=counted_at,
        )
