"""Choosing episodes by what is known of them, or one by one. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import MAX_ID, check_robot_id

from teleop_export.sessions.recorded import Label

# Of ids, robots and tasks that a filter may list: a query stays short.
MAX_WORDS = 1000
# As many as a session may have.
MAX_TAGS = 100

SessionId = Annotated[int, Meta(ge=1, le=MAX_ID)]
Words = Annotated[str, Meta(min_length=1, max_length=MAX_WORDS)]
Instant = Annotated[datetime, Meta(tz=True)]


class SessionFilter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Episodes that all of this is true of, by the names and in the meaning of `GET /episodes`; discarded
    ones never are. What is not named is not looked at. A session without episodes counts as one that nobody
    has labelled.

    robot_id     of the session
    session_id   the session
    task         one of its tasks; the session's, where it has none of its own
    outcome      unlabelled: nobody has said
    reason       of the outcome
    operator     who drove
    tag          one of its tags
    min_quality  1 to 5; an episode whose quality nobody has judged has none
    since        its session began at this time or later, RFC 3339 with its offset
    until        its session began before this time, RFC 3339 with its offset
    robot_type   of the session; `GET /episodes` has no such filter
    session_tags
                 its session has all of them, likewise
    """

    robot_id: Words | None = None
    session_id: SessionId | None = None
    task: Words | None = None
    outcome: Label | None = None
    reason: Words | None = None
    operator: Words | None = None
    tag: Words | None = None
    min_quality: Annotated[int, Meta(ge=1, le=5)] | None = None
    since: Instant | None = None
    until: Instant | None = None
    robot_type: Words | None = None
    session_tags: Annotated[tuple[Words, ...], Meta(max_length=MAX_TAGS)] = ()


class ChosenEpisode(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One episode.

    episode_index  in its session
    """

    session_id: SessionId
    episode_index: Annotated[int, Meta(ge=0, lt=2**31)]


def check_filter(wanted: SessionFilter) -> None:
    """Raise BadInput for a filter that says nothing, or that no session can pass."""
    if wanted == SessionFilter():
        raise BadInput(
            "filter is empty, and would export everything ever recorded",
            field="filter",
            hint=f"set at least one of {', '.join(SessionFilter.__struct_fields__)}",
        )
    if wanted.robot_id is not None:
        check_robot_id(wanted.robot_id, field="filter.robot_id")
    for name in ("robot_type", "task", "operator", "reason", "tag"):
        if "\0" in (getattr(wanted, name) or ""):
            raise BadInput(f"{name} holds a NUL character", field=f"filter.{name}")
    if any("\0" in tag for tag in wanted.session_tags):
        raise BadInput("a tag holds a NUL character", field="filter.session_tags")
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise BadInput("until must be later than since", field="filter.until")


def check_episodes(chosen: Sequence[ChosenEpisode]) -> None:
    """Raise BadInput for an episode that is named twice."""
    for each, count in Counter(chosen).items():
        if count > 1:
            raise BadInput(
                f"episode {each.episode_index} of session {each.session_id} appears twice", field="episodes"
            )


def sessions_of(chosen: Sequence[ChosenEpisode]) -> tuple[int, ...]:
    """Their sessions, each once, in the order of their first episodes."""
    return tuple(dict.fromkeys(each.session_id for each in chosen))
