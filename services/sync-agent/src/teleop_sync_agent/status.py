"""What `sync-agent status` shows, from the agent's stored state."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from lerobot_robot_backend.spool.flusher import SLOW_SYNC_S
from msgspec import Struct
from msgspec.structs import replace
from teleop_schema.files import Quota
from teleop_schema.words import counted, size_text

from teleop_sync_agent.keeping.state import AgentState, DatasetRow

if TYPE_CHECKING:
    from rich.table import Table

NOW_NOTE = "now"
# The running agent reports at least this often.
HEARTBEAT_S = 30.0
# A machine that hashes large files may be late with a report, but not with three.
SILENT_S = 3 * HEARTBEAT_S


class Now(Struct, kw_only=True, omit_defaults=True):
    """The running agent's report for `status`.

    at              seconds since the Unix epoch
    ended           this is its last report
    asked_at        when the server last answered the question, asked every few minutes, whether it still has
                    what it confirmed; seconds since the Unix epoch
    waiting_frames, waiting_segments, waiting_bytes
                    what is only on this PC, also of a session that is being recorded: about how many frames,
                    and finished video segments with their bytes
    problems        what can't be read, or can't be sent, and why
    quota           how much of what this robot may take on the server it has used, if that is nearly all
    erased          streams that an admin has erased on the server, and where their copies are
    again_streams   streams (and video segments) that the server had forgotten, and that are sent again
    """

    at: float
    ended: bool = False
    pid: int
    server: str
    paused: bool
    trouble: str | None = None
    quota: str | None = None
    samples: int = 0
    videos: int = 0
    waiting_frames: int = 0
    waiting_segments: int = 0
    waiting_bytes: int = 0
    stored_segments: int = 0
    refused_segments: int = 0
    sent_bytes: int = 0
    slowest_sync_ms: float = 0.0
    asked_at: float | None = None
    problems: tuple[str, ...] = ()
    erased: tuple[str, ...] = ()
    again_streams: int = 0
    again_segments: int = 0


class Status(Struct, kw_only=True, omit_defaults=True):
    """The whole status, as `--json` prints it.

    running  whether an agent has reported lately, and has not ended
    """

    robot_id: str
    running: bool
    paused: bool
    agent: Now | None
    datasets: list[DatasetRow]


def is_due(now: Now, told: Now | None) -> bool:
    """Whether to report: there is news, or the last report is old. The clock may have been set back."""
    return told is None or replace(now, at=told.at) != told or abs(now.at - told.at) > HEARTBEAT_S


def read_status(robot_id: str, state: AgentState, *, now_s: float | None = None) -> Status:
    """Read the status."""
    told = state.note(NOW_NOTE)
    agent = msgspec.json.decode(told, type=Now) if told else None
    at = time.time() if now_s is None else now_s
    return Status(
        robot_id=robot_id,
        running=agent is not None and not agent.ended and abs(at - agent.at) < SILENT_S,
        paused=state.paused,
        agent=agent,
        datasets=state.datasets(),
    )


def headline(status: Status) -> str:
    """The agent itself in one line, and below it, indented, one for each thing worth knowing of it."""
    agent = status.agent
    if agent is None:
        return f"{status.robot_id}: not running"
    state = "running" if status.running else "not running"
    if status.paused:
        state += ", paused"
    elif agent.paused and status.running:
        state += ", outside its upload hours"
    line = f"{status.robot_id}: {state}, server {agent.server}"
    if status.running:
        line += f" ({_answered(agent.asked_at)})"
    return "\n  ".join([line, *_worth_knowing(agent)])


def _worth_knowing(agent: Now) -> Iterator[str]:
    if agent.samples or agent.videos:
        samples, videos = counted(agent.samples, "stream"), counted(agent.videos, "stream")
        yield f"left to send: samples of {samples}, video of {videos}"
    if agent.refused_segments:
        yield f"refused by the server: {counted(agent.refused_segments, 'video segment')}"
    if agent.again_streams or agent.again_segments:
        yield (
            f"the samples of {counted(agent.again_streams, 'stream')} and "
            f"{counted(agent.again_segments, 'video segment')} are sent again, because the server no longer "
            "knew them"
        )
    if agent.problems:
        more = len(agent.problems) - 1
        yield f"not sent: {agent.problems[0]}" + (f" (and {more} more)" if more else "")
    yield from agent.erased
    if agent.slowest_sync_ms:
        risk = " (a power loss may lose as much of what was logged)"
        slow = agent.slowest_sync_ms > 1e3 * SLOW_SYNC_S
        yield f"slowest sync of samples {agent.slowest_sync_ms:.0f} ms{risk if slow else ''}"
    if agent.quota:
        yield f"storage on the server: {agent.quota}"
    if agent.trouble:
        yield f"trouble: {agent.trouble}"
    if agent.trouble and (agent.waiting_frames or agent.waiting_segments):
        frames, segments = counted(agent.waiting_frames, "frame"), counted(agent.waiting_segments, "segment")
        yield f"only on this PC so far: {frames}, {segments} of video ({size_text(agent.waiting_bytes)})"


def describe_quota(quota: Quota) -> str:
    """Text for people: how much of its quota a robot has used, and what happens at its end."""
    used, limit = size_text(quota.used_bytes), size_text(quota.limit_bytes)
    return f"{used} of {limit} used; beyond that, video and datasets wait on this PC"


def _answered(asked_at: float | None) -> str:
    if asked_at is None:
        return "has not answered yet"
    return f"answered at {datetime.fromtimestamp(asked_at):%H:%M:%S}"


def table(rows: Iterable[DatasetRow]) -> "Table":
    """A row per dataset; `on server` is the size of the version that the server has.

    Notes are no column: they are sentences, and would make it wider than a page (`notes`).
    """
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for name in ("dataset", "state", "episodes", "on server", "left", "rate"):
        shown.add_column(name, overflow="fold")
    for row in rows:
        left = row.bytes_total - row.bytes_done
        sending = row.state == "sending"
        shown.add_row(
            Text(row.name),
            describe_state(row),
            f"{row.saved_episodes} of {row.total_episodes}",
            size_text(row.size_bytes),
            size_text(left) if sending else "",
            f"{size_text(row.bytes_per_s)}/s" if sending else "",
        )
    return shown


def notes(rows: Iterable[DatasetRow]) -> Iterator[str]:
    """A line for each dataset of which a person should know something."""
    for row in rows:
        if note := describe_note(row):
            yield f"{row.name}: {note}"


def describe_state(row: DatasetRow) -> str:
    """The state in one or two words."""
    if row.state == "stored" and row.verdict == "dead":
        return "stored, not closed"
    if row.state == "stored" and not row.finalised:
        return "being recorded"
    return row.state


def describe_unusual(row: DatasetRow) -> list[str]:
    """A line for each thing that is not yet right with a dataset."""
    lines = [f"{row.name}: left out: {skipped}" for skipped in row.skipped]
    if row.overtaken_by is not None:
        lines.insert(0, f"{row.name}: {describe_overtaken(row.version, row.overtaken_by)}")
    if row.state != "stored" or not row.finalised:
        lines.insert(0, ": ".join(filter(None, (row.name, describe_state(row), describe_note(row)))))
    return lines


def describe_unsafe(row: DatasetRow) -> list[str]:
    """The same for a dataset whose current state is not on the server: at least one line."""
    changed = f"{row.name}: differs from what was stored" + (f": {row.reason}" if row.reason else "")
    return describe_unusual(row) or [changed]


def describe_note(row: DatasetRow) -> str:
    """What a person should know about the dataset."""
    notes = [row.error] if row.error else []
    if row.again:
        notes.append(f"sent again: {row.again}")
    if row.verdict == "dead":
        repaired = repaired_folder(Path(row.folder))
        advice = f"{repaired} is its repair" if repaired.is_dir() else f"sync-agent repair {row.folder}"
        notes.append(f"its recorder died: {advice}")
    elif row.state in ("waiting", "unsupported") and row.reason != row.again:
        notes.append(row.reason)
    if row.overtaken_by is not None:
        notes.append(describe_overtaken(row.version, row.overtaken_by))
    if row.kept:
        notes.append(f"not deleted to free space: {row.kept}")
    notes += [f"flagged: {flag}" for flag in row.flags[:1]]
    notes += [f"left out: {skipped}" for skipped in row.skipped[:1]]
    return "; ".join(notes)


def describe_overtaken(mine: int | None, newest: int) -> str:
    """Text for people: under the name of a dataset of this computer, another one stores its own."""
    return (
        f"another computer has since stored a different dataset under this name, as version {newest}; "
        f"yours is version {mine}, and stays there: give this computer a robot_id of its own"
    )


def repaired_folder(folder: Path) -> Path:
    """The default folder for the repair of a dataset."""
    return folder.with_name(f"{folder.name}-repaired")


def as_json(status: Status | list[Status]) -> bytes:
    """The same for programs."""
    plain: Any = msgspec.to_builtins(status)
    return msgspec.json.format(msgspec.json.encode(plain))
