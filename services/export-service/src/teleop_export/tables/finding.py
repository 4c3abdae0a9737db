"""Which sessions pass a filter, and if none does, which part of it fits none."""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import structs
from teleop_schema.errors import BadInput, SessionNotFound
from teleop_schema.words import counted

from teleop_export.errors import NothingToExport, UnknownName
from teleop_export.planning.selection import SessionFilter
from teleop_export.tables.database import Connection

# More of them are no help to a person.
MOST_NAMED = 10

# By the filter's names: what a session `s` must be.
_SESSION = {
    "robot_id": "s.robot_id = %(robot_id)s",
    "session_id": "s.id = %(session_id)s",
    "since": "s.start_time >= %(since)s",
    "until": "s.start_time < %(until)s",
    "robot_type": "s.robot_type = %(robot_type)s",
    "session_tags": "s.tags @> %(session_tags)s::text[]",
}
# What one of its episodes `e` must be, all of it; the view of tasks is slow, so only where there are several.
_EPISODE = {
    "task": """CASE WHEN e.later_tasks IS NULL THEN coalesce(e.task, s.task) = %(task)s ELSE EXISTS (
        SELECT FROM episode_overview o
         WHERE o.session_id = e.session_id AND o.episode_index = e.episode_index
           AND (o.tasks @> jsonb_build_array(jsonb_build_object('task', %(task)s::text))
                OR s.task = %(task)s AND o.tasks @> '[{"task": null}]')) END""",
    "outcome": "coalesce(e.outcome, 'unlabelled') = %(outcome)s",
    "reason": "e.reason = %(reason)s",
    "operator": "coalesce(e.operator, s.operator) = %(operator)s",
    "tag": "%(tag)s = ANY(e.tags)",
    "min_quality": "e.quality >= %(min_quality)s",
}
# And what a session must be that has none.
_WHOLE = {
    "task": "s.task = %(task)s",
    "outcome": "%(outcome)s = 'unlabelled'",
    "reason": "false",
    "operator": "s.operator = %(operator)s",
    "tag": "false",
    "min_quality": "false",
}
_NOT_DISCARDED = "e.outcome IS DISTINCT FROM 'discarded'"
_FINISHED = "s.status <> 'recording'"
# Whoever may touch the data of some robots only learns of no other.
_SEEN = """s.deleted_at IS NULL AND (%(robots)s::text[] IS NULL OR s.robot_id = ANY(%(robots)s::text[]))
           AND (%(named)s::bigint[] IS NULL OR s.id = ANY(%(named)s::bigint[]))"""
# By name of what people type: those that there are.
_KNOWN = {
    "robot_id": "SELECT DISTINCT robot_id AS name FROM seen",
    "robot_type": "SELECT DISTINCT robot_type AS name FROM seen",
    "task": """SELECT DISTINCT task AS name FROM seen WHERE task IS NOT NULL
               UNION SELECT DISTINCT told->>'task' FROM seen s
               JOIN episode_overview e ON e.session_id = s.id, jsonb_array_elements(e.tasks) told
               WHERE told->>'task' IS NOT NULL""",
    "session_tags": "SELECT DISTINCT unnest(tags) AS name FROM seen",
    "operator": """SELECT operator AS name FROM seen WHERE operator IS NOT NULL
                   UNION SELECT e.operator FROM episode e JOIN seen s ON s.id = e.session_id
                   WHERE e.operator IS NOT NULL""",
    "reason": """SELECT DISTINCT reason AS name FROM episode e JOIN seen s ON s.id = e.session_id
                 WHERE reason IS NOT NULL""",
    "tag": """SELECT DISTINCT unnest(e.tags) AS name FROM episode e
              JOIN seen s ON s.id = e.session_id""",
}
_WORDS = {"session_tags": "tag", "tag": "tag of an episode", "robot_id": "robot", "robot_type": "robot type"}
_LIST = "session_tags"


async def find_sessions(
    connection: Connection,
    wanted: SessionFilter,
    *,
    named: Sequence[int] | None,
    robot_ids: Collection[str] | None,
    unfinished: bool,
    limit: int,
) -> tuple[int, ...]:
    """The sessions that have episodes which pass the filter, in the order of `named`, or else oldest first.

    named       the only sessions to look at; None: all
    robot_ids   the only robots whose sessions there are, for whoever asks; None: all
    unfinished  also those that are still being recorded
    raises      SessionNotFound for one of `named`; NothingToExport, UnknownName if none has such episodes;
                BadInput if they are more than `limit`
    """
    search = _Search(connection, wanted, named, robot_ids)
    if named is not None:
        there = set(await search.find(limit=len(named), parts=()))
        if missing := [each for each in named if each not in there]:
            raise SessionNotFound.of(*missing, field="session_ids")
    found = await search.find(() if unfinished else (_FINISHED,), limit + 1)
    if not found:
        raise await search.why_none()
    if len(found) > limit:
        raise BadInput(
            f"the filter matches more than {counted(limit, 'session')}",
            field="filter",
            limit=limit,
            hint="export them in parts, for example by `since` and `until`",
        )
    return tuple(found) if named is None else tuple(each for each in named if each in found)


class _Search:
    """One filter, and what can be found with parts of it."""

    def __init__(
        self,
        connection: Connection,
        wanted: SessionFilter,
        named: Sequence[int] | None,
        robot_ids: Collection[str] | None,
    ) -> None:
        self._connection = connection
        self._parts = [name for name, value in structs.asdict(wanted).items() if value not in (None, ())]
        self._values = {
            **structs.asdict(wanted),
            _LIST: list(wanted.session_tags),
            "robots": None if robot_ids is None else list(robot_ids),
            "named": None if named is None else list(named),
        }

    async def find(
        self,
        more: Sequence[str] = (),
        limit: int = 1,
        *,
        parts: Sequence[str] | None = None,
        discarded: bool = False,
        **values: Any,
    ) -> list[int]:
        """Up to `limit` sessions that pass the parts of the filter (None: all) and these conditions.

        discarded  an episode that is discarded passes, too
        values     instead of those that the filter has
        """
        parts = self._parts if parts is None else parts
        conditions = [_SEEN, *more, *(_SESSION[each] for each in parts if each in _SESSION)]
        if told := [each for each in parts if each in _EPISODE]:
            episode = " AND ".join(
                [*([] if discarded else [_NOT_DISCARDED]), *(_EPISODE[each] for each in told)]
            )
            whole = " AND ".join(_WHOLE[each] for each in told)
            conditions.append(
                f"(EXISTS (SELECT FROM episode e WHERE e.session_id = s.id AND {episode})"  # noqa: S608
                f" OR {whole} AND NOT EXISTS (SELECT FROM episode e WHERE e.session_id = s.id))"
            )
        query = f"SELECT s.id FROM teleop_session s WHERE {' AND '.join(conditions)} ORDER BY s.id LIMIT %(limit)s"  # noqa: E501, S608
        rows = await self._connection.execute(query, {**self._values, **values, "limit": limit})
        return [row["id"] for row in await rows.fetchall()]

    async def why_none(self) -> NothingToExport | UnknownName:
        """The error for a filter that nothing passes."""
        if running := await self.find(limit=MOST_NAMED):
            return NothingToExport(
                f"all sessions that match are still being recorded: {', '.join(map(str, running))}",
                field="filter",
                hint='end them first, or set `"include_unfinished": true` to export what has been committed',
            )
        if await self.find(discarded=True):
            return NothingToExport("all episodes that match are discarded", field="filter")
        for name in self._parts:
            if not await self.find(parts=[name], discarded=True):
                return await self._fits_none(name)
        return NothingToExport(
            f"episodes match each of {', '.join(f'`{name}`' for name in self._parts)}, but none matches all "
            "of them",
            field="filter",
            hint="leave one of them out",
        )

    async def _fits_none(self, name: str) -> NothingToExport | UnknownName:
        """The error for the part of the filter that no session matches, whatever the other parts are."""
        field = f"filter.{name}"
        if name not in _KNOWN:
            return NothingToExport(f"no session matches `{name}`", field=field)
        unknown = [self._values[name]]
        if name == _LIST:
            unknown = [
                each for each in self._values[name] if not await self.find(parts=[name], session_tags=[each])
            ]
        if not unknown:
            return NothingToExport("no session has all of these tags", field=field)
        seen = f"WITH seen AS (SELECT * FROM teleop_session s WHERE {_SEEN})"  # noqa: S608
        query = f"{seen} {_KNOWN[name]} ORDER BY name LIMIT {MOST_NAMED + 1}"
        rows = await (await self._connection.execute(query, self._values)).fetchall()
        known = [row["name"] for row in rows]
        more = ", …" if len(known) > MOST_NAMED else ""
        return UnknownName(
            f"no session has the {_WORDS.get(name, name)} {unknown[0]}",
            field=field,
            hint=f"known are {', '.join(known[:MOST_NAMED])}{more}" if known else None,
        )
