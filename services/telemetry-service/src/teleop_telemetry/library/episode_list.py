"""Finds episodes by what is known of them, whichever session they are of."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from teleop_runtime.postgres.pool import Pool, connected
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import MAX_ID, RobotId

from teleop_telemetry.suspicion.catalogue import FlagName
from teleop_telemetry.tables.told import stripped
from teleop_telemetry.tables.views import MAX_PAUSES, EpisodeView, Status

TIMEOUT_S = 60.0
UNLABELLED = "unlabelled"
CURSOR = r"^([0-9]{1,6}-)?[0-9]{1,18}-[0-9]{1,10}$(?!\n)"

# Whoever has never had the task, by its own row, is not asked for its tasks one by one, which among a hundred
# thousand takes seconds. CASE keeps this order; the planner would not.
PAGE = """
SELECT e.*, s.robot_id, s.robot_type, s.fps, s.status, s.start_time, l.suspicion AS hundredths
  FROM {source} e JOIN teleop_session s ON s.id = e.session_id
  LEFT JOIN episode_look l ON l.session_id = e.session_id AND l.episode_index = e.episode_index
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
   AND ($12::bigint IS NULL OR $15::int IS NULL OR {after})
   AND ($16::text IS NULL
        OR EXISTS (SELECT FROM episode_flag f
                    WHERE f.session_id = e.session_id AND f.episode_index = e.episode_index AND f.flag = $16))
 ORDER BY {by} e.session_id DESC, e.episode_index DESC LIMIT $14
"""

# Each kind by its own index, a page of each; then what belongs to the episodes of the page.
LIST = """
SELECT to_jsonb(e) || to_jsonb(paused) || jsonb_build_object(
       'suspicion', e.hundredths / 100.0,
       'flags', (SELECT coalesce(jsonb_agg(DISTINCT f.flag), '[]') FROM episode_flag f
                  WHERE f.session_id = e.session_id AND f.episode_index = e.episode_index))
  FROM (SELECT * FROM (({told}) UNION ALL ({whole})) AS e
         ORDER BY {by} session_id DESC, episode_index DESC LIMIT $14) AS e
 CROSS JOIN LATERAL episode_pauses(e.session_id, e.episode_index, e.start_frame, e.end_frame, $1) AS paused
 ORDER BY {by} e.session_id DESC, e.episode_index DESC
"""


def _list(*, after: str, by: tuple[str, str]) -> str:
    """The list in one order.

    after  what comes after the last episode of a page
    by     what it is ordered by before session and episode, of a page and of both kinds together
    """
    told, whole = (
        PAGE.format(source=source, after=after, by=by[0]) for source in ("episode_overview", "whole_session")
    )
    return LIST.format(told=told, whole=whole, by=by[1])


# Of an episode that nobody has looked at yet, nothing suspicious is known.
LISTS = {
    "newest": _list(after="$15 = 0 AND (e.session_id, e.episode_index) < ($12, $13::int)", by=("", "")),
    "suspicion": _list(
        after="(coalesce(l.suspicion, 0), e.session_id, e.episode_index) < ($15, $12, $13::int)",
        by=("coalesce(l.suspicion, 0) DESC,", "coalesce(e.hundredths, 0) DESC,"),
    ),
}


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
    flag         it has this flag, a name of GET /flags
    order        newest, or suspicion: the most suspicious first
    cursor       `next_cursor` of the page before, which had the same order
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
    flag: FlagName | None = None
    order: Literal["newest", "suspicion"] = "newest"
    cursor: Annotated[str, Meta(pattern=CURSOR, examples=["12-3"])] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class LibraryEpisode(EpisodeView, kw_only=True):
    """An episode with what it needs to be known by of its session.

    fps         as its robot declared it
    status      of the session
    start_time  of the session
    flags       names of its flags
    suspicion   how many times each flag is beyond its threshold, at most 10, added up; null: not known yet
    """

    session_id: int
    robot_id: str
    robot_type: str
    fps: float
    status: Status
    start_time: datetime
    flags: list[FlagName]
    suspicion: float | None


class EpisodePage(Struct, kw_only=True):
    """Episodes in the order that was asked for, newest first among equals; `next_cursor` asks for more.

    episodes  of this page
    """

    episodes: list[LibraryEpisode]
    next_cursor: str | None


async def list_episodes(pool: Pool, wanted: EpisodeQuery) -> EpisodePage:
    """A page of the episodes that are wanted; raises BadInput."""
    suspicion, session, episode = _after(wanted) if wanted.cursor else (0, None, None)
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        rows = await connection.fetch(
            LISTS[wanted.order],
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
            suspicion,
            wanted.flag,
        )
    episodes = [msgspec.json.decode(row[0], type=LibraryEpisode) for row in rows[: wanted.limit]]
    last = episodes[-1] if len(rows) > wanted.limit else None
    return EpisodePage(episodes=episodes, next_cursor=None if last is None else _cursor(last, wanted.order))


def _cursor(last: LibraryEpisode, order: str) -> str:
    where = f"{last.session_id}-{last.episode_index}"
    return where if order == "newest" else f"{round(100 * (last.suspicion or 0))}-{where}"


def _after(wanted: EpisodeQuery) -> tuple[int, int, int]:
    """Suspicion, in hundredths, session and episode that a page ended with; raises BadInput."""
    told = [int(number) for number in (wanted.cursor or "").split("-")]
    if len(told) != (3 if wanted.order == "suspicion" else 2) or told[-1] >= 2**31:
        raise BadInput(f"{wanted.cursor!r} is not a cursor of this list in this order", field="cursor")
    return told[0] if len(told) == 3 else 0, told[-2], told[-1]
