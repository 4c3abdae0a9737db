"""`export-to-dataset --session_id 1 --repo_id my-user/my-new-dataset`:
recorded sessions to a dataset on this machine, ready for LeRobotDataset."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_repo_id
from teleop_schema.words import shown

from teleop_client.address import backend_url_option
from teleop_client.credentials import Tokens
from teleop_client.ending import INTERRUPTED, REFUSED, TRY_LATER, end_with
from teleop_client.exporting.exports import ExportError, Exports, check_free
from teleop_client.exporting.progress import showing
from teleop_client.exporting.summary import DATASET, MCAP, PARQUET, summary
from teleop_client.lerobot_home import lerobot_home

DEFAULT_URL = "http://localhost:8000"
OUTCOMES = ("success", "failure", "unlabelled")


def main() -> None:
    """Console script.

    Exit status 0: the dataset is there; 1: it failed, and the last line says why; 2: wrong usage; 75: it is
    not there yet, but the same command can succeed later, by itself or once a person has fixed the cause.
    """
    arguments = parse(sys.argv[1:])
    for line in mistyped(os.environ):
        print(f"warning: {line}", file=sys.stderr)
    try:
        asyncio.run(export(arguments, sys.stderr))
    except ExportError as error:
        end(error)
    except OSError as error:
        # An error with files on this machine; errors of the connection are ExportErrors.
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        end_with(REFUSED, what, "choose another folder with --root, or free some space there")
    except KeyboardInterrupt:
        print("stopped; the backend continues: run the command again to fetch the dataset", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def end(error: ExportError) -> NoReturn:
    """Say what went wrong, and exit with the status for it."""
    end_with(TRY_LATER if error.retryable else REFUSED, str(error), error.hint)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; exits with status 2 and the reason if it is wrong."""
    parser = Parser(prog="export-to-dataset", description="Make a LeRobot dataset from recorded sessions.")
    _asking(parser)
    _taking(parser)
    _shaping(parser)
    _pushing(parser.add_argument_group("the Hugging Face Hub"))
    arguments = parser.parse_args(words)
    _check_choice(parser, arguments)
    try:
        check_repo_id(arguments.repo_id)
    except BadInput as error:
        parser.error(f"{error.detail}: {error.hint}")
    return arguments


def _check_choice(parser: Parser, arguments: argparse.Namespace) -> None:
    """Exits with status 2 unless sessions, a filter, both, or single episodes are chosen."""
    others = arguments.session_id or filter_of(arguments)
    if arguments.episode and others:
        parser.error("choose episodes with either --episode, or --session_id and filters, not both")
    if not arguments.episode and not others:
        parser.error("no sessions chosen: give --session_id, or a filter such as --robot_id")


def _asking(parser: Parser) -> None:
    option = parser.add_argument
    option("--session_id", type=int, action="append", help="repeat the flag to merge sessions")
    option(
        "--episode",
        type=_episode,
        action="append",
        metavar="SESSION/INDEX",
        help="exactly this episode, such as 7/0; repeat the flag for several",
    )
    _choosing(parser.add_argument_group("only episodes that match, of --session_id or of all sessions"))
    option("--repo_id", required=True, help="name of the dataset, user/name")
    option(
        "--backend_url",
        type=backend_url_option,
        default=os.environ.get("LEROBOT_BACKEND_URL", DEFAULT_URL),
        help="%(default)s",
    )
    option(
        "--root",
        type=Path,
        help="folder to create; default: $HF_LEROBOT_HOME/<repo_id>, for other formats ./<name>-<format>",
    )
    option(
        "--format",
        choices=(DATASET, PARQUET, MCAP),
        default=DATASET,
        help="the sessions as they were recorded: tables, or files of joints and video for Foxglove; "
        "default: %(default)s",
    )


def _taking(parser: Parser) -> None:
    option = parser.add_argument
    option(
        "--on_gap",
        choices=("split", "refuse"),
        default="split",
        help="what to do with episodes that lack frames",
    )
    option(
        "--on_not_finite",
        choices=("split", "keep", "refuse"),
        default="split",
        help="what to do with frames that hold a NaN or infinite value; default: %(default)s",
    )
    option("--include_outcomes", nargs="+", choices=OUTCOMES, help="default: all")
    option("--include_unfinished", action="store_true", help="include sessions that are still being recorded")
    option(
        "--include_incomplete",
        action="store_true",
        help="include sessions with frames that are unaccounted for",
    )
    option(
        "--no_capture_time",
        action="store_true",
        help="leave out the columns with capture times, to merge with datasets made by lerobot-record",
    )
    option(
        "--no_labels",
        action="store_true",
        help="leave out the columns of meta/episodes with operator, outcome and other labels",
    )
    option(
        "--include_repeated",
        action="store_true",
        help="include frames that repeat an earlier observation with a newer action",
    )


def _shaping(parser: Parser) -> None:
    option = parser.add_argument
    option("--fps", type=int, help="rows per second; default: the rate of the cameras, or of the sessions")
    option("--cameras", nargs="*", help="default: all cameras with video; without a value: joints only")
    option("--split", nargs="+", type=_share, metavar="NAME=SHARE", help="for example train=0.9 val=0.1")
    option(
        "--split_seed",
        type=int,
        default=0,
        help="seed of the split: another seed draws other episodes; default: %(default)s",
    )
    option(
        "--streaming_safe",
        action="store_true",
        help="write one mp4 per camera, as StreamingLeRobotDataset needs",
    )


def _choosing(group: argparse._ArgumentGroup) -> None:
    option = group.add_argument
    option("--robot_id")
    option("--task", help="one of its tasks")
    option("--outcome", choices=OUTCOMES, help="unlabelled: nobody has said")
    option("--reason", help="of its outcome")
    option("--operator", help="who drove")
    option("--tag", help="one of its tags")
    option("--min_quality", type=int, help="judged as good as this, 1 to 5")
    option(
        "--since",
        type=_instant,
        help="its session began at or after this time: 2026-01-31, or a time with a time zone",
    )
    option("--until", type=_instant, help="its session began before this time")
    option("--robot_type")
    option("--session_tag", action="append", help="a tag of its session; repeat the flag to require several")


def _pushing(group: argparse._ArgumentGroup) -> None:
    option = group.add_argument
    option("--push_to_hub", action="store_true", help="with the token of the backend's export worker")
    option("--public", action="store_true", help="make the repository public; default: private")
    option(
        "--overwrite",
        action="store_true",
        help="overwrite content on the Hub that does not come from these recordings",
    )
    option("--token_name", help="name of the worker's token to use")


def _episode(text: str) -> dict[str, int]:
    session, _, index = text.partition("/")
    try:
        return {"session_id": int(session), "episode_index": int(index)}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form SESSION/INDEX, as in 7/0") from None


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SHARE, as in val=0.1") from None


def _instant(text: str) -> str:
    """ISO 8601 with a time zone; the local one if none is given."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; write it as 2026-01-31 or 2026-01-31T10:00:00+09:00"
        ) from None


async def export(arguments: argparse.Namespace, output: TextIO) -> None:
    """Export and download the dataset, then describe it; raises ExportError.

    output  where it says how far it is
    """
    target: Path = arguments.root or default_root(arguments)
    check_free(target)
    tokens = Tokens.of_environment(arguments.backend_url)
    async with Exports.connected(arguments.backend_url, tokens) as backend:
        asked = await backend.ask(request_of(arguments))
        with showing(output) as progress:
            made = await backend.follow(asked["id"], progress)
            await backend.fetch(asked["id"], target, progress, is_dataset=arguments.format == DATASET)
        print("\n".join(map(shown, summary(made, target, arguments))))
        if arguments.push_to_hub:
            with showing(output) as progress:
                commit_url = await backend.follow_push(asked["id"], progress)
            print(f"on the Hub: {shown(commit_url)}")


def request_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Body of POST /exports."""
    request: dict[str, Any] = {
        "repo_id": arguments.repo_id,
        "on_gap": arguments.on_gap,
        "include_unfinished": arguments.include_unfinished,
        "include_capture_time": not arguments.no_capture_time,
    }
    if arguments.on_not_finite != "split":
        request["on_not_finite"] = arguments.on_not_finite
    if arguments.include_incomplete:
        request["include_incomplete"] = True
    if arguments.no_labels:
        request["include_labels"] = False
    if arguments.include_repeated:
        request["include_repeated"] = True
    if arguments.fps is not None:
        request["fps"] = arguments.fps
    if arguments.cameras is not None:
        request["cameras"] = arguments.cameras
    if arguments.episode:
        request["episodes"] = arguments.episode
    if arguments.session_id:
        request["session_ids"] = arguments.session_id
    if wanted := filter_of(arguments):
        request["filter"] = wanted
    if arguments.split:
        request |= {"split": dict(arguments.split), "split_seed": arguments.split_seed}
    if arguments.format != DATASET:
        request["format"] = arguments.format
    if arguments.streaming_safe:
        request["streaming_safe"] = True
    if arguments.push_to_hub:
        request["push_to_hub"] = push_of(arguments)
    if arguments.include_outcomes:
        request["include_outcomes"] = sorted(set(arguments.include_outcomes))
    return request


def filter_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`filter` of the body; empty if there is none."""
    wanted = {
        "robot_id": arguments.robot_id,
        "task": arguments.task,
        "outcome": arguments.outcome,
        "reason": arguments.reason,
        "operator": arguments.operator,
        "tag": arguments.tag,
        "min_quality": arguments.min_quality,
        "since": arguments.since,
        "until": arguments.until,
        "robot_type": arguments.robot_type,
        "session_tags": arguments.session_tag,
    }
    return {name: value for name, value in wanted.items() if value}


def push_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`push_to_hub` of the body."""
    push: dict[str, Any] = {"private": not arguments.public, "overwrite": arguments.overwrite}
    return push | ({"token_name": arguments.token_name} if arguments.token_name else {})


def default_root(arguments: argparse.Namespace) -> Path:
    """The folder where LeRobot looks for the dataset; raw exports go into the working directory."""
    if arguments.format == DATASET:
        return lerobot_home() / str(arguments.repo_id)
    return Path(f"{arguments.repo_id.rpartition('/')[2]}-{arguments.format}")


if __name__ == "__main__":
    main()
