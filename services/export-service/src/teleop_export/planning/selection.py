"""Choosing sessions by what they are instead of by their numbers. Pure."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field, structs
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_robot_id

from teleop_export.sessions.recorded import Label

# Of ids, robots and tasks that a filter may list: a query stays short.
MAX_WORDS = 1000
# As many as a session may have.
MAX_TAGS = 100

Words = Annotated[str, Meta(min_length=1, max_length=MAX_WORDS)]
Instant = Annotated[datetime, Meta(tz=True)]


class SessionFilter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sessions that all of this is true of. What is not named is not looked at.

    robot_id, robot_type  of the session
    task                  of the session or of one of its episodes; export only episodes of this task,
                          one with several tasks whole if this is any of them
    outcome               of one of its episodes; export only episodes with this outcome
    tags                  the session has all of them
    operator, reason, min_quality, episode_tags
                          of one of its episodes: who drove, why it has its outcome, 1 to 5, all of these
                          tags; export only episodes that all of this is true of
    from, to              it began at or after `from` and before `to`, ISO 8601 with a zone
    """

    robot_id: Words | None = None
    robot_type: Words | None = None
    task: Words | None = None
    outcome: Label | None = None
    tags: Annotated[tuple[Words, ...], Meta(max_length=MAX_TAGS)] = ()
    operator: Words | None = None
    reason: Words | None = None
    min_quality: Annotated[int, Meta(ge=1, le=5)] | None = None
    episode_tags: Annotated[tuple[Words, ...], Meta(max_length=MAX_TAGS)] = ()
    since: Instant | None = field(default=None, name="from")
    until: Instant | None = field(default=None, name="to")


def check_filter(wanted: SessionFilter) -> None:
    """Raise BadInput for a filter that says nothing, or that no session can pass."""
    if wanted == SessionFilter():
        raise BadInput(
            "filter is empty, and would export everything ever recorded",
            field="filter",
            hint=(
                f"set at least one of {', '.join(each.encode_name for each in structs.fields(SessionFilter))}"
            ),
        )
    if wanted.robot_id is not None:
        check_robot_id(wanted.robot_id, field="filter.robot_id")
    for name in ("robot_type", "task", "operator", "reason"):
        if "\0" in (getattr(wanted, name) or ""):
            raise BadInput(f"{name} holds a NUL character", field=f"filter.{name}")
    for name in ("tags", "episode_tags"):
        if any("\0" in tag for tag in getattr(wanted, name)):
            raise BadInput("a tag holds a NUL character", field=f"filter.{name}")
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise BadInput("to must be later than from", field="filter.to")
