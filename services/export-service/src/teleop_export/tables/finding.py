"""Which sessions pass a filter, and if none does, which part of it fits none."""

from collections.abc import Collection
from typing import Any

from msgspec import structs
from psycopg.rows import DictRow
from teleop_schema.errors import BadInput
from teleop_schema.words import counted

from teleop_export.errors import NothingToExport, UnknownName
from teleop_export.planning.selection import SessionFilter
from teleop_export.tables.database import Connection

# More of them are no help to a person.
MOST_NAMED = 10

# By the filter's names: what a session `s` must be.
_PARTS = {
    "robot_id": "s.robot_id = %(robot_id)s",
    "robot_type": "s.robot_type = %(robot_type)s",
    "task": """(s.task = %(task)s
        OR EXISTS (SELECT FROM episode_overview e
                    WHERE e.session_id = s.id
                      AND e.tasks @> jsonb_build_array(jsonb_build_object('task', %(task)s::text))))""",
    "outcome": """(EXISTS (SELECT FROM episode e WHERE e.session_id = s.id
                   AND coalesce(e.outcome, 'unlabelled') = %(outcome)s)
        OR %(outcome)s = 'unlabelled' AND NOT EXISTS (SELECT FROM episode e WHERE e.session_id = s.id))""",
    "tags": "s.tags @> %(tags)s::text[]",
    "operator": """(s.operator = %(operator)s
        OR EXISTS (SELECT FROM episode e WHERE e.session_id = s.id AND e.operator = %(operator)s))""",
    "reason": "EXISTS (SELECT FROM episode e WHERE e.session_id = s.id AND e.reason = %(reason)s)",
    "min_quality": """EXISTS (SELECT FROM episode e
                              WHERE e.session_id = s.id AND e.quality >= %(min_quality)s)""",
    "episode_tags": """EXISTS (SELECT FROM episode e
                               WHERE e.session_id = s.id AND e.tags @> %(episode_tags)s::text[])""",
    "from": "s.start_time >= %(since)s",
    "to": "s.start_time < %(until)s",
}
_FINISHED = "s.status <> 'recording'"
# Whoever may touch the data of some robots only learns of no other.
_SEEN = "s.deleted_at IS NULL AND (%(robots)s::text[] IS NULL OR s.robot_id = ANY(%(robots)s::text[]))"
# By name of what people type: those that there are.
_KNOWN = {
    "robot_id": "SELECT DISTINCT robot_id AS name FROM seen",
    "robot_type": "SELECT DISTINCT robot_type AS name FROM seen",
    "task": """SELECT DISTINCT task AS name FROM seen WHERE task IS NOT NULL
               UNION SELECT DISTINCT told->>'task' FROM seen s
               JOIN episode_overview e ON e.session_id = s.id, jsonb_array_elements(e.tasks) told
               WHERE told->>'task' IS NOT NULL""",
    "tags": "SELECT DISTINCT unnest(tags) AS name FROM seen",
    "operator": """SELECT operator AS name FROM seen WHERE operator IS NOT NULL
                   UNION SELECT e.operator FROM episode e JOIN seen s ON s.id = e.session_id
                   WHERE e.operator IS NOT NULL""",
    "reason": """SELECT DISTINCT reason AS name FROM episode e JOIN seen s ON s.id = e.session_id
                 WHERE reason IS NOT NULL""",
    "episode_tags": """SELECT DISTINCT unnest(e.tags) AS name FROM episode e
                       JOIN seen s ON s.id = e.session_id""",
}
_LISTS = ("tags", "episode_tags")
_WORDS = {"tags": "tag", "episode_tags": "tag of an episode", "robot_id": "robot", "robot_type": "robot type"}


async def find_sessions(
    connection: Connection,
    wanted: SessionFilter,
    *,
    robot_ids: Collection[str] | None,
    unfinished: bool,
    limit: int,
) -> tuple[int, ...]:
    """The sessions that pass the filter, oldest first.

    robot_ids   the only robots whose sessions there are, for whoever asks; None: all
    unfinished  also those that are still being recorded
    raises      NothingToExport, UnknownName if there are none; BadInput if they are more than `limit`
    """
    parts = _parts_of(wanted)
    robots = None if robot_ids is None else list(robot_ids)
    lists = {name: list(getattr(wanted, name)) for name in _LISTS}
    values = {**structs.asdict(wanted), **lists, "robots": robots}
    rows = await _matching(
        connection, [*parts.values(), *([] if unfinished else [_FINISHED])], values, limit + 1
    )
    if not rows:
        raise await _why_none(connection, parts, values)
    if len(rows) > limit:
        raise BadInput(
            f"the filter matches more than {counted(limit, 'session')}",
            field="filter",
            limit=limit,
            hint="export them in parts, for example by `from` and `to`",
        )
    return tuple(row["id"] for row in rows)


def _parts_of(wanted: SessionFilter) -> dict[str, str]:
    """What the filter asks for, by its names, as conditions."""
    return {
        each.encode_name: _PARTS[each.encode_name]
        for each in structs.fields(SessionFilter)
        if getattr(wanted, each.name) not in (None, ())
    }


async def _matching(
    connection: Connection, conditions: list[str], values: dict[str, Any], limit: int
) -> list[DictRow]:
    where = " AND ".join([_SEEN, *conditions])
    query = f"SELECT s.id FROM teleop_session s WHERE {where} ORDER BY s.id LIMIT %(limit)s"  # noqa: S608
    return await (await connection.execute(query, {**values, "limit": limit})).fetchall()


async def _why_none(
    connection: Connection, parts: dict[str, str], values: dict[str, Any]
) -> NothingToExport | UnknownName:
    if running := await _matching(connection, list(parts.values()), values, MOST_NAMED):
        numbers = ", ".join(str(row["id"]) for row in running)
        return NothingToExport(
            f"all sessions that match are still being recorded: {numbers}",
            field="filter",
            hint='end them first, or set `"include_unfinished": true` to export what has been committed',
        )
    for name, condition in parts.items():
        if not await _matching(connection, [condition], values, 1):
            return await _fits_none(connection, name, condition, values)
    return NothingToExport(
        f"sessions match each of {', '.join(f'`{name}`' for name in parts)}, but none matches all of them",
        field="filter",
        hint="leave one of them out",
    )


async def _fits_none(
    connection: Connection, name: str, condition: str, values: dict[str, Any]
) -> NothingToExport | UnknownName:
    """The error for the part of the filter that no session matches, whatever the other parts are."""
    field = f"filter.{name}"
    if name not in _KNOWN:
        return NothingToExport(f"no session matches `{name}`", field=field)
    wanted = values[name] if name in _LISTS else [values[name]]
    unknown = [
        each
        for each in wanted
        if not await _matching(
            connection, [condition], {**values, name: [each] if name in _LISTS else each}, 1
        )
    ]
    if not unknown:
        return NothingToExport("no session has all of these tags", field=field)
    seen = f"WITH seen AS (SELECT * FROM teleop_session s WHERE {_SEEN})"  # noqa: S608
    query = f"{seen} {_KNOWN[name]} ORDER BY name LIMIT {MOST_NAMED + 1}"
    known = [row["name"] for row in await (await connection.execute(query, values)).fetchall()]
    more = ", …" if len(known) > MOST_NAMED else ""
    return UnknownName(
        f"no session has the {_WORDS.get(name, name)} {unknown[0]}",
        field=field,
        hint=f"known are {', '.join(known[:MOST_NAMED])}{more}" if known else None,
    )
