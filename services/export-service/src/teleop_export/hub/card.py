"""The README of a dataset on the Hub. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from teleop_schema.words import CUT_OFF, counted

# Whoever takes this line out of the card keeps the card: later pushes leave it alone.
MARK = "<!-- Written by lerobot-backend. Without this line, later pushes leave this card as it is. -->"

# A card is for people; the dataset has them all.
MAX_TASKS = 50
# Of a table in it, likewise.
MAX_ROWS = 200

# What LeRobot itself writes, and what the Hub's dataset viewer reads.
FRONT_MATTER = """\
---
tags:
- LeRobot
task_categories:
- robotics
configs:
- config_name: default
  data_files: data/*/*.parquet
---
"""


def card(
    repo_id: str, info: Mapping[str, Any], report: Mapping[str, Any], tasks: Sequence[str], size_bytes: int
) -> str:
    """The card as Markdown with front matter; the same dataset always has the same card.

    info    content of `meta/info.json`
    report  the account of `meta/backend.json`: committed, excluded, exported, and the same by session
    """
    return FRONT_MATTER + "\n".join(
        [
            "",
            MARK,
            "",
            f"# {_plain(repo_id)}",
            "",
            "A robot dataset in [LeRobot](https://github.com/huggingface/lerobot)'s format "
            f"{_plain(str(info['codebase_version']))}.",
            "",
            "```python",
            "from lerobot.datasets.lerobot_dataset import LeRobotDataset",
            "",
            f'dataset = LeRobotDataset("{repo_id}")',
            "```",
            "",
            "## Contents",
            *_contents(info, size_bytes),
            "",
            "## Features",
            *_features(info["features"]),
            "",
            "## Tasks",
            *_some([f"- {_plain(task)}" for task in tasks], MAX_TASKS),
            "",
            "## Where it comes from",
            *_ledger(report),
            "",
            "## meta/info.json",
            "```json",
            json.dumps(info, indent=4, ensure_ascii=False),
            "```",
            "",
        ]
    )


def _contents(info: Mapping[str, Any], size_bytes: int) -> Iterator[str]:
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    yield from _row("", "")
    yield from _row("---", "---:")
    yield from _row("robot", _plain(str(info["robot_type"])))
    yield from _row("episodes", f"{info['total_episodes']:,}")
    yield from _row("frames", f"{info['total_frames']:,}")
    yield from _row("frames per second", str(info["fps"]))
    yield from _row("duration", _duration(info["total_frames"] / info["fps"]))
    yield from _row("tasks", f"{info['total_tasks']:,}")
    yield from _row("cameras", ", ".join(_plain(key.split(".")[-1]) for key in cameras) or "none")
    yield from _row("size", f"{size_bytes / 1e6:,.1f} MB")


def _features(features: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from _row("feature", "type", "shape", "names")
    yield from _row("---", "---", "---", "---")
    for key, feature in features.items():
        names = feature.get("names") or []
        shape = "×".join(map(str, feature["shape"]))
        yield from _row(f"`{_plain(key)}`", feature["dtype"], shape, _plain(", ".join(map(str, names))))


def _ledger(report: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Frames recorded: {report['committed']:,}; left out: {report['excluded']:,}; in this dataset: "
        f"{report['exported']:,}. `meta/backend.json` names the recorded frames of each episode."
    )
    yield ""
    yield from _row("session", "recorded", "exported", "episodes", "loop rate", "left out (reason)")
    yield from _row("---:", "---:", "---:", "---:", "---", "---")
    rows = [
        f"| {each['session_id']} | {each['committed']:,} | {each['exported']:,} | {each['episodes']:,} "
        f"| {_rate(each)} | {_reasons(each)} |"
        for each in report["sessions"]
    ]
    yield from _some(rows, MAX_ROWS)
    yield from _columns(report)
    yield from _not_recorded(report)
    yield from _cut_off(report)


def _columns(report: Mapping[str, Any]) -> Iterator[str]:
    """What became of columns that a command added; reports of older versions tell none."""
    lines = [
        f"- `{_plain(each['name'])}` is NaN or infinite in {each['not_finite']:,} of the rows"
        for each in report.get("columns", ())
        if each["not_finite"]
    ]
    left_out = {
        f"- `{_plain(each['name'])}` was left out: {_plain(each['reason'])}; {_plain(each['hint'])}": None
        for session in report["sessions"]
        for each in session.get("columns_left_out", ())
    }
    lines += left_out
    if lines:
        yield from ("", "Columns that the recording command added:", "")
        yield from _some(lines, MAX_ROWS)


def _not_recorded(report: Mapping[str, Any]) -> Iterator[str]:
    """What was there while recording, and is not kept as it was; reports of older versions tell none."""
    sessions: dict[tuple[str, str], list[str]] = {}
    for session in report["sessions"]:
        for each in session.get("not_recorded", ()):
            sessions.setdefault((each["name"], each["reason"]), []).append(str(session["session_id"]))
    lines = [
        f"- `{_plain(name)}` of session {', '.join(numbers)}: {_plain(reason)}"
        for (name, reason), numbers in sessions.items()
    ]
    if lines:
        yield from (
            "",
            "Features of the robot, or of the recording command's own dataset, that the recording lacks:",
            "",
        )
        yield from _some(lines, MAX_ROWS)


def _cut_off(report: Mapping[str, Any]) -> Iterator[str]:
    """Episodes that LeRobot has not saved; reports of older versions tell none."""
    lines = [
        f"- episode {episode} of session {session['session_id']}: {CUT_OFF}"
        for session in report["sessions"]
        for episode in session.get("cut_off", ())
    ]
    if lines:
        yield from ("", "Episodes that were cut off:", "")
        yield from _some(lines, MAX_ROWS)


def _rate(session: Mapping[str, Any]) -> str:
    """Reports of older versions tell none."""
    measured, declared = session.get("measured_hz"), session.get("declared_fps")
    if measured is None:
        return "" if declared is None else f"{declared:g} Hz declared"
    return f"{measured:.2f} Hz, {declared:g} declared"


def _reasons(session: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for excluded in session["excluded"]:
        counts[excluded["reason"]] = counts.get(excluded["reason"], 0) + excluded["frames"]
    told = [f"{frames:,}: {_plain(reason)}" for reason, frames in counts.items()]
    missing = sum(gap["end_frame"] - gap["first_frame"] for gap in session["gaps"])
    if missing:
        told.append(f"{missing:,} never recorded")
    stalls = [stall["seconds"] for time in session.get("times", ()) for stall in time["stalls"]]
    if stalls:
        told.append(f"{sum(stalls):.1f} s during which the loop stood still, {counted(len(stalls), 'time')}")
    return "; ".join(told)


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def _some(lines: Sequence[str], limit: int) -> Iterator[str]:
    yield from lines[:limit]
    if len(lines) > limit:
        yield ""
        yield f"… and {len(lines) - limit:,} more."


def _plain(text: str) -> str:
    """`text` as one line that means nothing to Markdown or HTML."""
    words = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#&" else letter for letter in words)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
