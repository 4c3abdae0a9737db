"""The last lines of `export-to-dataset`: what was made, what is not in it, how to open it. Pure."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from teleop_schema.words import counted, told_cut_off, told_frames

from teleop_client.exporting.flags import in_flags

DATASET, PARQUET, MCAP = "lerobot-v3.0", "parquet", "mcap"

_HOW_TO_OPEN = {
    PARQUET: "read {folder}/session-{number}/frames.parquet with pandas.read_parquet; {folder}/README.md "
    "describes the files and columns",
    MCAP: "open {folder}/session-{number}.mcap in Foxglove, or with mcap.reader.make_reader of the mcap "
    "library",
}


def summary(made: dict[str, Any], target: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """What was made, what was left out, how to load it."""
    numbers, report = made["numbers"], made["report"]
    episodes = f"{counted(numbers['episodes'], 'episode')}, "
    if not numbers["episodes"]:  # a raw export of a session that was teleoperated, not recorded in episodes
        episodes = ""
    # A raw export has no rate.
    rate = f" at {report['fps']} fps" if report.get("fps") else ""
    yield f"{episodes}{counted(numbers['frames'], 'frame')}{rate} in {target}"
    declared = {session.get("declared_fps") or 0.0 for session in report["sessions"]}
    if rate and (broken := sorted(each for each in declared if not float(each).is_integer())):
        loops = ", ".join(f"{each:g}" for each in broken)
        yield f"its loop ran at {loops} Hz; a dataset's rate is a whole number (times in the report)"
    for session in report["sessions"]:
        yield from _told_of(session)
    for camera in report["cameras"]:
        for encoded in camera["encoded"]:
            yield (
                f"camera {camera['camera']} of episode {encoded['episode_index']} was re-encoded: "
                f"{encoded['reason']}"
            )
    yield ""
    if arguments.format != DATASET:
        first = report["sessions"][0]["session_id"]
        yield _HOW_TO_OPEN[arguments.format].format(folder=target, number=first)
        return
    yield "from lerobot.datasets.lerobot_dataset import LeRobotDataset"
    root = f', root="{target}"' if arguments.root else ""
    yield f'dataset = LeRobotDataset("{arguments.repo_id}"{root})'


def _told_of(session: dict[str, Any]) -> Iterator[str]:
    """What is worth knowing of one session of the export. Backends of older versions tell less."""
    number = session["session_id"]
    for episode in session.get("cut_off", ()):
        yield told_cut_off(number, episode)
    for excluded in session["excluded"]:
        episode = "" if excluded["episode_index"] is None else f"episode {excluded['episode_index']}: "
        some = told_frames(excluded["first_frame"], excluded["end_frame"], excluded["frames"])
        yield f"left out of session {number}: {episode}{some}: {excluded['reason']}"
    for column in session.get("columns_left_out", ()):
        yield (
            f"column {column['name']} of session {number} was left out: {column['reason']}; "
            f"{in_flags(column['hint'])}"
        )
    for lacking in session.get("not_recorded", ()):
        yield (f"not recorded in session {number}: {lacking['name']}: {lacking['reason']}")
    if untold := session.get("times_not_told"):
        yield f"session {number}: {counted(untold, 'frame')} came without a time, and got that of the arrival"
    if implausible := session.get("implausible"):
        yield (
            f"session {number}: {counted(implausible, 'frame')} with a time before 2000, or more than a day "
            "after it was stored; check the robot's clock"
        )
    if refused := session.get("refused"):
        yield (
            f"not in the export of session {number}: {counted(refused, 'frame')} that the server refused "
            f"(GET /sessions/{number}/ledger has why)"
        )
    if cameras := session.get("pictures_left_out"):
        yield (
            f"not in the export of session {number}: pictures of camera {', '.join(cameras)} "
            f"(GET /sessions/{number}/videos has them)"
        )
    for gap in session["gaps"]:
        yield (
            f"split in session {number}: frames {gap['first_frame']} to "
            f"{gap['end_frame'] - 1} are missing, {gap['reason']}"
        )
