"""Computers that record under one `robot_id` at the same time: nothing is lost, but nobody tells them apart.

A robot records one session at a time. What it recorded earlier and sends late, beside the one that it records
now, was taken earlier; so only sessions whose frames were taken at the same time are of two computers.
"""

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected

from teleop_telemetry.metrics import ROBOTS_CLASHING

log = get_logger(__name__)

# Sessions are taken for recorded as long as frames of them are committed (`online` of a robot).
LOOK_EVERY_S = 10.0
TIMEOUT_S = 10.0

# A restarted recording may begin while the last frames of the one before are on their way, and a clock may be
# corrected by some seconds in between: they may overlap for less.
CLASHING = """
SELECT r.robot_id, array_agg(s.id ORDER BY s.id) AS sessions, r.clashing_sessions AS known,
       array_agg(coalesce(s.host->>'hostname', '?') ORDER BY s.id) AS hosts
  FROM robot r
 CROSS JOIN LATERAL (
       SELECT id, host, start_time, last_frame_time, status, last_commit_at FROM teleop_session
        WHERE robot_id = r.robot_id ORDER BY id DESC LIMIT 10) s
 WHERE s.status = 'recording' AND s.last_commit_at > now() - interval '15 s'
   AND EXISTS (
       SELECT FROM teleop_session o
        WHERE o.robot_id = r.robot_id AND o.id <> s.id AND o.status = 'recording'
          AND o.last_commit_at > now() - interval '15 s'
          AND least(o.last_frame_time, s.last_frame_time) - greatest(o.start_time, s.start_time)
              > interval '10 s')
 GROUP BY r.robot_id
"""
NOTE = "UPDATE robot SET clashing_sessions = $2, clashed_at = now() WHERE robot_id = $1"


async def look_for_clashes(pool: Pool) -> None:
    """Note the robots as which two computers record now, and log each pair once."""
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        rows = await connection.fetch(CLASHING)
        for row in rows:
            await connection.execute(NOTE, row["robot_id"], row["sessions"])
    ROBOTS_CLASHING.set(len(rows))
    for row in rows:
        if row["sessions"] != row["known"]:
            log.warning(
                "two computers record as one robot",
                robot=row["robot_id"],
                sessions=row["sessions"],
                hosts=row["hosts"],
                hint="nothing is lost, but nobody can tell the two apart: give each a robot_id of its own",
            )
