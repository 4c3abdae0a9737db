"""Uploads what a robot PC records to the backend, and restores it.

exit codes:
  0    success; for `once`: everything is safe on the server; for `run`: SIGTERM
  1    something failed, differs, or is not safe yet
  2    the command is invalid, or can't run with the current settings
  3    another agent watches the same folder, or runs for the same robot here
  75   no backend could be reached in time (once, verify, restore)
  130  Ctrl-C

If the backend requires a token, `join` gets one; else set $LEROBOT_BACKEND_TOKEN.
"""

import argparse
import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped
from teleop_schema.words import shown, shown_lines

from teleop_sync_agent.errors import AgentError, Failed
from teleop_sync_agent.keeping.state import AgentState, default_state_dir, find_states, state_path
from teleop_sync_agent.settings import DEFAULT_PARALLEL, MAX_PARALLEL, MAX_PORT, Settings, make_settings

# The other exit codes belong to the errors.
EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
# Time without progress after which a command gives up; a server that restarts is back sooner.
ONCE_TIMEOUT_S = 60.0
# Wider than any table, so that output which is not on a terminal is never folded.
PIPE_COLUMNS = 100_000


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    for line in mistyped(os.environ):
        print(f"sync-agent: {line}", file=sys.stderr)
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.command(chosen))
    except AgentError as error:
        print(f"sync-agent: {shown_lines(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


type Commands = argparse._SubParsersAction[Parser]
type Parents = Sequence[Parser]


def _parser() -> Parser:
    parser = Parser(
        prog="sync-agent", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    server, memory, seen = _server_options(), _memory_options(), _seen_options()
    _add_join(commands)
    _add_run(commands, [server, memory, _work_options()])
    _add_once(commands, [server, memory, _work_options()])
    _add_commands_on_what_is_here(commands, [seen, memory])
    _add_restore(commands, [server])
    _add_repair(commands)
    return parser


def _server_options() -> Parser:
    options = _options(
        ("--robot_id", "NAME", str, "name of this robot on the server; default: $LEROBOT_BACKEND_ROBOT_ID"),
    )
    _add_address(options, "http://host:8000 or ws://host:8000; default: $LEROBOT_BACKEND_URL")
    return options


def _add_address(parser: Parser, text: str) -> None:
    """The backend's address, under the name that the recording commands have for it."""
    parser.add_argument("--backend_url", dest="server", metavar="URL", help=text)
    # What the agent called it first; service files on robots have that.
    parser.add_argument("--server", help=argparse.SUPPRESS)


def _memory_options() -> Parser:
    return _options(
        (
            "--state-dir",
            "DIR",
            Path,
            (
                "folder of the agent's memory; default: lerobot_backend/sync-agent in "
                "$XDG_STATE_HOME or ~/.local/state"
            ),
        )
    )


def _seen_options() -> Parser:
    return _options(
        (
            "--robot_id",
            "NAME",
            str,
            "only this robot; default: $LEROBOT_BACKEND_ROBOT_ID, or all robots an agent has run for here",
        )
    )


def _add_join(commands: Commands) -> None:
    join = commands.add_parser("join", help="get this robot's token, with a line, or by asking an admin")
    join.add_argument("line", help="the line, in quotes: 'lrb://host:8000/?code=…'; with --ask, the address")
    join.add_argument("--robot_id", metavar="NAME", help="name of this robot, with a fleet's line or --ask")
    join.add_argument("--ask", action="store_true", help="have no line: wait until an admin approves")
    join.set_defaults(command=_join)


def _add_run(commands: Commands, parents: Parents) -> None:
    run = commands.add_parser("run", parents=parents, help="upload everything, and keep running")
    run.add_argument(
        "--between",
        metavar="22:00-06:00",
        help="upload only during these hours of the day, local time; default: always",
    )
    run.add_argument(
        "--reclaim-when-below",
        metavar="10GB",
        help="while less is free on their disk, delete the oldest datasets that are proven to "
        "be on the server; default: never delete anything",
    )
    run.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help=f"serve Prometheus metrics on this port of 127.0.0.1, 1 to {MAX_PORT}; default: none",
    )
    run.set_defaults(command=_run)


def _add_once(commands: Commands, parents: Parents) -> None:
    once = commands.add_parser("once", parents=parents, help="upload what is there, then exit")
    once.add_argument(
        "--timeout",
        type=_seconds,
        default=ONCE_TIMEOUT_S,
        metavar="SECONDS",
        help=f"give up after this many seconds without progress; default: {ONCE_TIMEOUT_S:g}",
    )
    once.set_defaults(command=_once)


def _add_commands_on_what_is_here(commands: Commands, parents: Parents) -> None:
    status = commands.add_parser(
        "status", parents=parents, help="show what is safe on the server (always exits with 0)"
    )
    status.add_argument("--json", action="store_true", help="print JSON, with more details")
    status.set_defaults(command=_status)
    for name, paused, text in (
        ("pause", True, "stop uploading until `resume`, even after a restart"),
        ("resume", False, "continue uploading"),
    ):
        command = commands.add_parser(name, parents=parents, help=text)
        command.set_defaults(command=_set_paused, paused=paused)
    verify = commands.add_parser(
        "verify", parents=parents, help="compare a dataset's folder, its receipts and the server"
    )
    verify.add_argument("dataset", help="name of the dataset as `status` shows it, or its folder")
    _add_address(verify, "default: $LEROBOT_BACKEND_URL, or the server the agent sent it to")
    verify.set_defaults(command=_verify)


def _add_restore(commands: Commands, parents: Parents) -> None:
    restore = commands.add_parser("restore", parents=parents, help="download a dataset from the server")
    restore.add_argument("dataset", help="name of the dataset as `status` shows it")
    restore.add_argument(
        "--into",
        type=Path,
        required=True,
        metavar="DIR",
        help="download to the folder DIR/DATASET, which must not exist yet",
    )
    restore.add_argument(
        "--version", type=int, metavar="NUMBER", help="default: the newest finalised version"
    )
    restore.set_defaults(command=_restore)


def _add_repair(commands: Commands) -> None:
    repair = commands.add_parser("repair", help="rebuild a dataset whose recorder died, beside the original")
    repair.add_argument("folder", type=Path, help="folder of the dataset; it is only read")
    repair.add_argument(
        "--into", type=Path, metavar="DIR", help="folder of the new dataset; default: FOLDER-repaired"
    )
    repair.add_argument(
        "--info",
        type=Path,
        metavar="FILE",
        help="an earlier meta/info.json of the dataset, if its own is missing or torn",
    )
    repair.set_defaults(command=_repair)


def _options(*options: tuple[str, str, Callable[[str], object], str]) -> Parser:
    """Options that several commands share: flag, placeholder for the value, its type, help."""
    parser = Parser(add_help=False)
    for flag, metavar, kind, text in options:
        parser.add_argument(flag, metavar=metavar, type=kind, help=text)
    return parser


def _work_options() -> Parser:
    """Options of `run` and `once`: what they do, and how fast."""
    options = Parser(add_help=False)
    options.add_argument(
        "--watch",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="folder that contains datasets; repeat the option for more; default: LeRobot's own, "
        "$HF_LEROBOT_HOME, $HF_HOME/lerobot or ~/.cache/huggingface/lerobot",
    )
    options.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        help="spool folder of the recording commands; default: $LEROBOT_BACKEND_SPOOL "
        "or lerobot_backend/spool in $XDG_STATE_HOME or ~/.local/state",
    )
    options.add_argument(
        "--bandwidth",
        metavar="10MB/s",
        help="limit for all file uploads together, per second; default: no limit",
    )
    options.add_argument(
        "--parallel",
        type=int,
        default=DEFAULT_PARALLEL,
        metavar="FILES",
        help=f"number of parallel uploads, 1 to {MAX_PARALLEL}; default: {DEFAULT_PARALLEL}",
    )
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _settings(chosen: argparse.Namespace) -> Settings:
    return make_settings(
        server=chosen.server,
        robot_id=chosen.robot_id,
        watch=chosen.watch,
        spool=chosen.spool,
        state_dir=chosen.state_dir,
        bandwidth=chosen.bandwidth,
        parallel=chosen.parallel,
        reclaim_when_below=getattr(chosen, "reclaim_when_below", None),
        between=getattr(chosen, "between", None),
        metrics_port=getattr(chosen, "metrics_port", None),
    )


def _join(chosen: argparse.Namespace) -> int:
    from teleop_sync_agent.asking import join_here

    print(join_here(chosen.line, chosen.robot_id, ask=chosen.ask))
    return EXIT_OK


def _run(chosen: argparse.Namespace) -> int:
    from teleop_sync_agent.running import run, until_told, with_bars

    settings = _settings(chosen)
    _prepare()
    asyncio.run(until_told(run(settings, with_bars)))
    return EXIT_OK


def _once(chosen: argparse.Namespace) -> int:
    from teleop_sync_agent.agent import Agent
    from teleop_sync_agent.running import until_told, with_bars
    from teleop_sync_agent.status import describe_unusual

    settings = _settings(chosen)
    # `run` waits for a folder that a recording will create. Here,
    # a mistyped folder would be reported as safe.
    named = [("--watch", root) for root in settings.roots if chosen.watch]
    named += [("--spool", settings.spool_dir)] if chosen.spool else []
    for option, folder in named:
        if not folder.exists():
            raise AgentError(f"{option} {folder} does not exist, so there is nothing to upload")
    # A person, or a mail of cron, reads it; a log collector reads `run`.
    _prepare(plain=True)
    agent = Agent(settings)
    try:
        unsafe = asyncio.run(until_told(with_bars(agent, agent.once(chosen.timeout))))
        if unsafe is None:
            raise Failed("stopped before everything was uploaded")
        notes = [line for tended in agent.datasets.tended.values() for line in describe_unusual(tended.row)]
        for line in dict.fromkeys([*notes, *unsafe]):
            print(shown(line), file=sys.stderr)
        return EXIT_FAILED if unsafe else EXIT_OK
    finally:
        agent.close()


def _prepare(*, plain: bool = False) -> None:
    from teleop_sync_agent.logs import configure_logs

    configure_logs(plain=plain or sys.stderr.isatty())
    # Recordings belong to the user who records; nobody else should change receipts.
    os.umask(0o022)


def _robots(chosen: argparse.Namespace) -> list[tuple[str, AgentState]]:
    """The named robot; if none is named, all robots for which an agent has run here."""
    folder = chosen.state_dir or default_state_dir()
    wanted = chosen.robot_id or os.environ.get("LEROBOT_BACKEND_ROBOT_ID")
    robots = [wanted] if wanted else find_states(folder)
    missing = [robot for robot in robots if not state_path(folder, robot).exists()]
    if missing or not robots:
        raise AgentError(f"no agent has run for {missing[0] if missing else 'any robot'} here: see {folder}")
    return [(robot, AgentState(state_path(folder, robot))) for robot in robots]


def _status(chosen: argparse.Namespace) -> int:
    from teleop_sync_agent.status import as_json, headline, notes, read_status, table

    found = [read_status(robot, state) for robot, state in _robots(chosen)]
    if chosen.json:
        sys.stdout.buffer.write(as_json(found[0] if len(found) == 1 else found) + b"\n")
        return EXIT_OK
    from rich.console import Console

    # In a pipe, each name must stay in one piece.
    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    for status in found:
        console.print(shown_lines(headline(status)), markup=False, highlight=False, soft_wrap=True)
        if status.datasets:
            console.print(table(status.datasets))
        for note in notes(status.datasets):
            console.print(shown(note), markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK


def _set_paused(chosen: argparse.Namespace) -> int:
    for robot, state in _robots(chosen):
        state.paused = chosen.paused
        print(f"{robot}: {'paused' if chosen.paused else 'resumed'}")
    return EXIT_OK


def _verify(chosen: argparse.Namespace) -> int:
    from teleop_sync_agent.restoring.remote import verify

    return EXIT_OK if asyncio.run(verify(chosen, _robots(chosen))) else EXIT_FAILED


def _restore(chosen: argparse.Namespace) -> int:
    from teleop_sync_agent.restoring.remote import fetch

    return EXIT_OK if asyncio.run(fetch(chosen)) else EXIT_FAILED


def _repair(chosen: argparse.Namespace) -> int:
    """Run in a separate process, because it needs libraries and memory that an agent does not need."""
    from teleop_sync_agent.status import repaired_folder

    source = chosen.folder.expanduser().absolute()
    if not source.is_dir():
        raise AgentError(f"{source} is not a folder; name the folder of the dataset")
    if chosen.info and not chosen.info.is_file():
        raise AgentError(f"--info {chosen.info} is not a file")
    target = chosen.into or repaired_folder(source)
    command = [sys.executable, "-P", "-m", "teleop_dataset.repair", str(source), str(target)]
    if chosen.info:
        command += ["--info", str(chosen.info)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
