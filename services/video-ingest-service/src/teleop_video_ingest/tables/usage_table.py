"""Rows of `robot_usage`: what each robot's files take. Every function works in its caller's transaction."""

from msgspec import Struct, convert
from teleop_runtime.postgres.pool import Connection

FIND = """
SELECT used_bytes, extract(epoch FROM clock_timestamp() - counted_at)::float8 AS age_s
  FROM robot_usage WHERE robot_id = $1
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

OVER = """
SELECT robot_id FROM robot_usage
 WHERE used_bytes >= $1 AND (counted_at IS NULL OR counted_at < clock_timestamp() - make_interval(secs => $2))
 ORDER BY robot_id
"""

HOW_MANY = "SELECT count(*) FROM robot_usage WHERE used_bytes >= $1"


class Usage(Struct, frozen=True):
    """What a robot's files take.

    age_s  since they were counted; None: they were not
    """

    used_bytes: int
    age_s: float | None


async def find_usage(connection: Connection, robot_id: str) -> Usage | None:
    """What is known of the robot; None: nothing."""
    row = await connection.fetchrow(FIND, robot_id)
    return None if row is None else convert(dict(row), Usage)


async def add_bytes(connection: Connection, robot_id: str, size_bytes: int) -> None:
    """Note a file that is stored; until the transaction ends, the robot's row is locked."""
    await connection.execute(ADD, robot_id, size_bytes)


async def count_usage(connection: Connection, robot_id: str) -> int:
    """Bytes that the robot's files take, read from the tables of the files and noted."""
    await connection.execute(LOCK, robot_id)
    used_bytes: int = await connection.fetchval(COUNT, robot_id)
    return used_bytes


async def robots_over(connection: Connection, least_bytes: int, age_s: float) -> list[str]:
    """Robots that take that much, as counted longer ago than that."""
    return [row["robot_id"] for row in await connection.fetch(OVER, least_bytes, age_s)]


async def how_many_over(connection: Connection, least_bytes: int) -> int:
    """How many robots take that much."""
    many: int = await connection.fetchval(HOW_MANY, least_bytes)
    return many
