"""What a change makes of an episode. Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, structs
from teleop_schema.errors import BadInput

from teleop_telemetry.tables.told import stripped, stripped_all
from teleop_telemetry.tables.views import EpisodeChange, Outcome


class Judged(Struct, frozen=True, kw_only=True):
    """What people may change of an episode, by the names of its columns.

    later_tasks  frame -> the task from there on; None: it has no other than `task`
    end_frame    None while it is being recorded
    tags         None: none
    """

    start_frame: int
    end_frame: int | None
    task: str | None
    later_tasks: dict[str, str | None] | None
    outcome: Outcome | None
    reason: str | None
    quality: int | None
    note: str | None
    tags: list[str] | None
    operator: str | None


COLUMNS = Judged.__struct_fields__


def changed(stored: Judged, change: EpisodeChange, *, frames: int, reasons: Mapping[str, Outcome]) -> Judged:
    """The episode after the change; raises BadInput.

    frames   that its session has: an episode's bounds lie within
    reasons  there are, each with the outcome that it is for; needed if the change has an outcome or a reason
    """
    wanted: dict[str, Any] = {}
    if change.task is not UNSET:
        wanted["task"] = stripped(change.task)
        if stored.later_tasks is not None:
            wanted["later_tasks"] = dict.fromkeys(stored.later_tasks, wanted["task"])
    for name in ("outcome", "reason", "note", "operator"):
        if (value := getattr(change, name)) is not UNSET:
            wanted[name] = stripped(value)
    if change.quality is not UNSET:
        wanted["quality"] = change.quality
    if change.tags is not UNSET:
        wanted["tags"] = stripped_all(change.tags) or None
    for name in ("start_frame", "end_frame"):
        if (value := getattr(change, name)) is not UNSET:
            wanted[name] = value
    judged = structs.replace(stored, **wanted)
    if "start_frame" in wanted or "end_frame" in wanted:
        _check_bounds(judged, frames, "start_frame" if "end_frame" not in wanted else "end_frame")
    if "reason" in wanted and (judged.outcome, judged.reason) != (stored.outcome, stored.reason):
        _check_reason(judged, reasons)
    elif judged.outcome != stored.outcome and reasons.get(judged.reason or "") != judged.outcome:
        judged = structs.replace(judged, reason=None)
    return judged


def taken_back(stored: Judged, before: Mapping[str, Any], after: Mapping[str, Any]) -> Judged:
    """The episode without a change, except what its robot has told otherwise since.

    before, after  of the change, by the names of columns
    """
    former = {name: value for name, value in before.items() if getattr(stored, name) == after[name]}
    if before.get("later_tasks"):
        # Frame by frame: the robot may have told of others since.
        now = stored.later_tasks or {}
        same = {frame for frame, task in after["later_tasks"].items() if now.get(frame) == task}
        former["later_tasks"] = now | {frame: before["later_tasks"][frame] for frame in same}
    return structs.replace(stored, **former)


def differences(before: Judged, after: Judged) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns that differ, with what they held and with what they hold."""
    names = [name for name in COLUMNS if getattr(before, name) != getattr(after, name)]
    return {name: getattr(before, name) for name in names}, {name: getattr(after, name) for name in names}


def _check_bounds(judged: Judged, frames: int, field: str) -> None:
    last = frames if judged.end_frame is None else judged.end_frame
    if not judged.start_frame <= last <= frames:
        raise BadInput(
            f"the episode would have frames {judged.start_frame} to {last}, "
            f"but the session has 0 to {frames}",
            field=field,
        )


def _check_reason(judged: Judged, reasons: Mapping[str, Outcome]) -> None:
    if judged.reason is None or reasons.get(judged.reason) == judged.outcome is not None:
        return
    if judged.outcome is None:
        raise BadInput(
            "an episode without an outcome has no reason for it", field="reason", hint="tell the outcome, too"
        )
    choice = ", ".join(sorted(name for name, outcome in reasons.items() if outcome == judged.outcome))
    raise BadInput(
        f"{judged.reason!r} is not a reason for the outcome {judged.outcome!r} here",
        field="reason",
        hint=f"one of {choice}" if choice else "there is none yet: PUT /outcome-reasons/{name} adds it",
    )
