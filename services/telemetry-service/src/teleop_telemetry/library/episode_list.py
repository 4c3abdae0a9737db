"""Finds episodes by what is known of them, whichever session they are of."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from teleop_runtime.postgres.pool import Pool, connected
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import MAX_ID, RobotId

from teleop_telemetry.tables.told import stripped
from teleop_telemetry.tables.views import MAX_PAUSES, EpisodeView, Status

TIMEOUT_S = 60.0
UNLABELLED = "unlabelled"

# Whoever has never had the task, by its own row, is not asked for its tasks one by one, which among a hundred
# thousand takes seconds. CASE keeps this order; the planner would not.
PAGE = """
SELECT e.*, s.robot_id, s.robot_type, s.fps, s.status, s.start_time
  FROM {source} e JOIN teleop_session s ON s.id = e.session_id
 WHERE s.deleted_at IS NULL
   AND ($2::text IS NULL OR s.robot_id = $2)
   AND ($3::bigint IS NULL OR e.session_id = $3)
   AND CASE WHEN $4::text IS NULL THEN true
            WHEN s.task = $4 OR (e.session_id, e.episode_index) IN (
                 SELECT session_id, episode_index FROM episode WHERE task = $4 OR later_tasks IS NOT NULL)
            THEN e.tasks @> jsonb_build_array(jsonb_build_object('task', $4))
                 OR s.task = $4 AND e.tasks @> '[{{"task": null}}]'
            ELSE false END
   AND ($5::text IS NULL OR coalesce(e.outcome, 'unlabelled') = $5)
   AND ($6::text IS NULL OR e.reason = $6)
   AND ($7::text IS NULL OR e.operator = $7)
   AND ($8::text IS NULL OR $8 = ANY(e.tags))
   AND ($9::int IS NULL OR e.quality >= $9)
   AND ($10::timestamptz IS NULL OR s.start_time >= $10)
   AND ($11::timestamptz IS NULL OR s.start_time < $11)
   AND ($12::bigint IS NULL OR (e.session_id, e.episode_index) < ($12, $13::int))
 ORDER BY e.session_id DESC, e.episode_index DESC LIMIT $14
"""

# Each kind by its own index, a page of each; then what belongs to the episodes of the page.
LIST = f"""
SELECT to_jsonb(e) || to_jsonb(paused)
  FROM (SELECT * FROM (({PAGE.format(source="episode_overview")})
                        UNION ALL
                       ({PAGE.format(source="whole_session")})) AS each
         ORDER BY session_id DESC, episode_index DESC LIMIT $14) AS e
 CROSS JOIN LATERAL episode_pauses(e.session_id, e.episode_index, e.start_frame, e.end_frame, $1) AS paused
 ORDER BY e.session_id DESC, e.episode_index DESC
"""  # noqa: S608


class EpisodeQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which episodes to list: those that all of this is true of.

    task         one of its tasks; the session's, where it has none of its own
    outcome      unlabelled: nobody has said
    reason       of the outcome
    operator     who drove
    tag          one of its tags
    min_quality  1 to 5; an episode whose quality nobody has judged has none
    since        its session began at this time or later, RFC 3339 with its offset
    until        its session began before this time, RFC 3339 with its offset
    cursor       `next_cursor` of the page before
    limit        episodes of a page
    """

    robot_id: RobotId | None = None
    session_id: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    task: str | None = None
    outcome: Literal["success", "failure", "discarded", "unlabelled"] | None = None
    reason: str | None = None
    operator: str | None = None
    tag: str | None = None
    min_quality: Annotated[int, Meta(ge=1, le=5)] | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,18}-[0-9]{1,10}$(?!\n)", examples=["12-3"])] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class LibraryEpisode(EpisodeView, kw_only=True):
    """An episode with what it needs to be known by of its session.

    fps         as its robot declared it
    status      of the session
    start_time  of the session
    """

    session_id: int
    robot_id: str
    robot_type: str
    fps: float
    status: Status
    start_time: datetime


class EpisodePage(Struct, kw_only=True):
    """Episodes, newest session first, and of a session the last first; `next_cursor` asks for more.

    episodes  of this page
    """

    episodes: list[LibraryEpisode]
    next_cursor: str | None


async def list_episodes(pool: Pool, wanted: EpisodeQuery) -> EpisodePage:
    """A page of the episodes that are wanted; raises BadInput."""
    session, episode = _after(wanted.cursor) if wanted.cursor else (None, None)
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        rows = await connection.fetch(
            LIST,
            MAX_PAUSES,
            wanted.robot_id,
            wanted.session_id,
            wanted.task,
            wanted.outcome,
            wanted.reason,
            stripped(wanted.operator),
            stripped(wanted.tag),
            wanted.min_quality,
            wanted.since,
            wanted.until,
            session,
            episode,
            wanted.limit + 1,
        )
    episodes = [msgspec.json.decode(row[0], type=LibraryEpisode) for row in rows[: wanted.limit]]
    last = episodes[-1] if len(rows) > wanted.limit else None
    return EpisodePage(
        episodes=episodes, next_cursor=None if last is None else f"{last.session_id}-{last.episode_index}"
    )


def _after(cursor: str) -> tuple[int, int]:
    """Session and episode that a page ended with; raises BadInput."""
    session, episode = map(int, cursor.split("-"))
    if episode >= 2**31:
        raise BadInput(f"{cursor!r} is not a cursor of this list", field="cursor")
    return session, episode
