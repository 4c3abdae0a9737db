"""Rows of `robot_usage`: what each robot's files take. Every function works in its caller's transaction."""

from msgspec import Struct, convert
from teleop_runtime.postgres.pool import Connection

# One row in any case, also of a robot that has neither sent a file nor got a limit.
FIND = """
SELECT coalesce(u.used_bytes, 0) AS used_bytes, q.limit_bytes,
       extract(epoch FROM clock_timestamp() - u.counted_at)::float8 AS age_s
  FROM (SELECT $1::text AS robot_id) asked
  LEFT JOIN robot_usage u USING (robot_id) LEFT JOIN robot_quota q USING (robot_id)
"""

ADD = """
INSERT INTO robot_usage (robot_id, used_bytes) VALUES ($1, $2)
ON CONFLICT (robot_id) DO UPDATE SET used_bytes = robot_usage.used_bytes + excluded.used_bytes
"""

# Whoever stores a file of the robot waits for the row, and so is counted exactly once: by the count, which
# sees what was stored before it, or on top of it.
LOCK = """
INSERT INTO robot_usage (robot_id, used_bytes) VALUES ($1, 0)
ON CONFLICT (robot_id) DO UPDATE SET robot_id = excluded.robot_id
"""

# An object of which a robot has several files is stored once; of which several robots have, too, but each of
# them takes it.
COUNT = """
UPDATE robot_usage SET counted_at = clock_timestamp(), used_bytes = (
    SELECT coalesce(sum(o.size_bytes), 0)::bigint FROM stored_object o WHERE o.sha256 IN (
        SELECT c.sha256 FROM video_chunk c JOIN teleop_session s ON s.id = c.session_id
         WHERE s.robot_id = $1
         UNION
        SELECT f.sha256 FROM dataset_file f JOIN dataset d ON d.id = f.dataset_id WHERE d.robot_id = $1
         UNION
        SELECT f.sha256 FROM dataset_version_file f JOIN dataset_version v ON v.id = f.version_id
          JOIN dataset d ON d.id = v.dataset_id WHERE d.robot_id = $1))
 WHERE robot_id = $1 RETURNING used_bytes
"""

# Near the limit the count must be exact; for the others it costs more than it tells.
TO_COUNT = """
SELECT u.robot_id FROM robot_usage u LEFT JOIN robot_quota q USING (robot_id)
 WHERE u.counted_at IS NULL OR u.counted_at < clock_timestamp() - make_interval(secs => $4)
    OR (u.used_bytes >= $2::float8 * coalesce(q.limit_bytes, $1::bigint)
        AND u.counted_at < clock_timestamp() - make_interval(secs => $3))
 ORDER BY u.robot_id
"""

HOW_MANY = """
SELECT count(*) FROM robot_usage u LEFT JOIN robot_quota q USING (robot_id)
 WHERE u.used_bytes >= $2::float8 * coalesce(q.limit_bytes, $1::bigint)
"""


class Usage(Struct, frozen=True):
    """What a robot's files take.

    limit_bytes  the robot's own; None: it has none
    age_s        since they were counted; None: they were not
    """

    used_bytes: int
    limit_bytes: int | None
    age_s: float | None


async def find_usage(connection: Connection, robot_id: str) -> Usage:
    """What is known of the robot."""
    return convert(dict(await connection.fetchrow(FIND, robot_id) or {}), Usage)


async def add_bytes(connection: Connection, robot_id: str, size_bytes: int) -> None:
    """Note a file that is stored; until the transaction ends, the robot's row is locked."""
    await connection.execute(ADD, robot_id, size_bytes)


async def count_usage(connection: Connection, robot_id: str) -> int:
    """Bytes that the robot's files take, read from the tables of the files and noted."""
    await connection.execute(LOCK, robot_id)
    used_bytes: int = await connection.fetchval(COUNT, robot_id)
    return used_bytes


async def robots_to_count(
    connection: Connection, default_bytes: int | None, part: float, near_s: float, other_s: float
) -> list[str]:
    """Robots that were never counted, or longer ago than that.

    default_bytes    limit of a robot that has none of its own; None: any amount
    near_s, other_s  for those that take that part of their limit, and for others
    """
    rows = await connection.fetch(TO_COUNT, default_bytes, part, near_s, other_s)
    return [row["robot_id"] for row in rows]


async def how_many_over(connection: Connection, default_bytes: int | None, part: float) -> int:
    """How many robots take that part of their limit."""
    many: int = await connection.fetchval(HOW_MANY, default_bytes, part)
    return many
