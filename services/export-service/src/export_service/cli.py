"""`export-to-dataset --session_id 1 --repo_id my-user/my-new-dataset`: recorded sessions to a dataset on this
machine, ready for LeRobotDataset."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_repo_id

from export_service import client
from export_service.client import Client, ExportError, check_free

DEFAULT_URL = "http://localhost:8000"
REFUSED, INTERRUPTED = 1, 130

_WORDS = {
    "data": "reading and writing frames",
    "video": "copying video",
    "statistics": "exact statistics",
    "verify": "verifying",
    "download": "downloading",
}


def main() -> None:
    """Console script. Exit status 0: the dataset is there; 1: it is not, and why; 2: wrong usage."""
    arguments = parse(sys.argv[1:])
    console = Console(stderr=True, highlight=False)
    try:
        asyncio.run(export(arguments, console))
    except ExportError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        if error.hint:
            console.print(f"hint: {error.hint}", markup=False, soft_wrap=True)
        raise SystemExit(REFUSED) from None
    except KeyboardInterrupt:
        console.print("stopped; the backend goes on, run the command again to fetch the dataset")
        raise SystemExit(INTERRUPTED) from None


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; exits with status 2 and the reason if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="export-to-dataset", description="Make a LeRobot dataset of recorded sessions."
    )
    option = parser.add_argument
    option("--session_id", type=int, action="append", required=True, help="repeat it to merge sessions")
    option("--repo_id", required=True, help="name of the dataset, user/name")
    option("--backend_url", default=os.environ.get("LEROBOT_BACKEND_URL", DEFAULT_URL), help="%(default)s")
    option("--root", type=Path, help="the dataset's folder; default: $HF_LEROBOT_HOME/<repo_id>")
    option("--on_gap", choices=("split", "refuse"), default="split", help="episodes that lack frames")
    option("--include_outcomes", nargs="+", choices=("success", "failure", "unlabelled"), help="default: all")
    option("--include_unfinished", action="store_true", help="also sessions that are still being recorded")
    option(
        "--no_capture_time",
        action="store_true",
        help="leave out the columns that tell when samples and pictures were taken, to merge with datasets "
        "that lerobot-record made",
    )
    option("--fps", type=int, help="rows per second; default: that of the cameras, or of the sessions")
    option("--cameras", nargs="*", help="default: all that have video; none after it: joints alone")
    arguments = parser.parse_args(words)
    try:
        check_repo_id(arguments.repo_id)
    except BadInput as error:
        parser.error(f"{error.detail}: {error.hint}")
    return arguments


async def export(arguments: argparse.Namespace, console: Console) -> None:
    """Make and fetch the dataset, then say what it is; raises ExportError."""
    target: Path = arguments.root or lerobot_home() / arguments.repo_id
    check_free(target)
    async with Client.connect(arguments.backend_url) as backend:
        asked = await backend.ask(request_of(arguments))
        with showing(console) as progress:
            made = await backend.follow(asked["id"], progress)
            await backend.fetch(asked["id"], target, progress)
    print("\n".join(summary(made, target, arguments)))


def request_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Body of POST /exports."""
    request: dict[str, Any] = {
        "session_ids": arguments.session_id,
        "repo_id": arguments.repo_id,
        "on_gap": arguments.on_gap,
        "include_unfinished": arguments.include_unfinished,
        "include_capture_time": not arguments.no_capture_time,
    }
    if arguments.fps is not None:
        request["fps"] = arguments.fps
    if arguments.cameras is not None:
        request["cameras"] = arguments.cameras
    if arguments.include_outcomes:
        request["include_outcomes"] = sorted(set(arguments.include_outcomes))
    return request


def summary(made: dict[str, Any], target: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """What was made, what was left out, how to load it."""
    numbers, report = made["numbers"], made["report"]
    episodes = f"{numbers['episodes']} episode" + ("" if numbers["episodes"] == 1 else "s")
    yield f"{episodes}, {numbers['frames']} frames in {target}"
    for session in report["sessions"]:
        for excluded in session["excluded"]:
            episode = "" if excluded["episode_index"] is None else f"episode {excluded['episode_index']}: "
            yield (
                f"left out of session {session['session_id']}: {episode}{excluded['frames']} frames, "
                f"{excluded['reason']}"
            )
        for gap in session["gaps"]:
            yield (
                f"split in session {session['session_id']}: frames {gap['first_frame']} to "
                f"{gap['end_frame'] - 1} are missing, {gap['reason']}"
            )
    for camera in report["cameras"]:
        for encoded in camera["encoded"]:
            yield (
                f"camera {camera['camera']} of episode {encoded['episode_index']} was encoded anew: "
                f"{encoded['reason']}"
            )
    yield ""
    yield "from lerobot.datasets.lerobot_dataset import LeRobotDataset"
    root = f', root="{target}"' if arguments.root else ""
    yield f'dataset = LeRobotDataset("{arguments.repo_id}"{root})'


def lerobot_home() -> Path:
    """Where LeRobot keeps datasets (lerobot.utils.constants, huggingface_hub.constants)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    huggingface = os.path.expandvars(os.environ.get("HF_HOME") or str(cache))
    home = os.environ.get("HF_LEROBOT_HOME") or str(Path(huggingface).expanduser() / "lerobot")
    return Path(home).expanduser()


@contextmanager
def showing(console: Console) -> Iterator[client.Progress]:
    """A bar per stage on a terminal, a line per finished stage elsewhere."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        yield Bars(bars)


class Bars:
    """Progress for eyes."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(_WORDS.get(stage, stage))
        self._bars.update(self._tasks[stage], completed=done, total=total)


class Lines:
    """Progress for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._finished: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done >= total and stage not in self._finished:
            self._finished.add(stage)
            self._console.print(f"{_WORDS.get(stage, stage)}: done", soft_wrap=True)


if __name__ == "__main__":
    main()
