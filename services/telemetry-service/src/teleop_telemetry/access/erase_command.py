"""The command `erase`, on a database that it is given: asks, shows what goes, and waits."""

import argparse
import asyncio
import sys
from typing import Any

from teleop_runtime.gate import TokenDirectory
from teleop_runtime.postgres.pool import Pool
from teleop_schema.errors import BadInput, SessionNotFound
from teleop_schema.identifiers import MAX_ID, check_dataset_name, check_robot_id
from teleop_schema.words import counted, shown

from teleop_telemetry.access.installation import OPERATOR, in_columns, told_time
from teleop_telemetry.erasing.erasure_table import ErasureTable
from teleop_telemetry.erasing.views import ErasureView, NewErasure

# How often to look how far it is.
LOOK_EVERY_S = 1.0
# All there are; a terminal shows no pages.
LISTED = 100_000


def add_commands(kinds: "argparse._SubParsersAction[Any]") -> None:
    """Add `erase` to the commands."""
    what = kinds.add_parser("erase", help="erase a session, or a backed-up dataset, for good").add_subparsers(
        dest="command", required=True
    )
    session = what.add_parser(
        "session", help="erase a session with its video, its archive, and all exports with frames of it"
    )
    session.add_argument("session_id", type=int, help="its number")
    session.set_defaults(run=_erase_session)
    dataset = what.add_parser("dataset", help="erase the backup of a dataset, with all of its versions")
    dataset.add_argument("robot_id")
    dataset.add_argument("name", help="of the dataset")
    dataset.set_defaults(run=_erase_dataset)
    for each in (session, dataset):
        each.add_argument("--yes", action="store_true", help="do not ask")
    what.add_parser("list", help="list what was erased, and how far it is").set_defaults(run=_list)


async def _erase_session(pool: Pool, arguments: argparse.Namespace) -> str:
    number: int = arguments.session_id
    if not 1 <= number <= MAX_ID:
        raise SessionNotFound.of(number)
    wanted = NewErasure(session_id=number)
    found = await ErasureTable(pool).holds(wanted)
    told = f"session {number}"
    if found:
        held = [
            counted(found[many], one)
            for many, one in (
                ("frames", "frame"),
                ("episodes", "episode"),
                ("video_chunks", "video chunk"),
                ("exports", "export"),
            )
        ]
        told += (
            f" of {found['robot_id']}, {told_time(found['start_time'])}: {', '.join(held)} with frames of it"
        )
    return await _erase(
        pool, wanted, told if found else f"{told}: nothing of it is stored", sure=arguments.yes
    )


async def _erase_dataset(pool: Pool, arguments: argparse.Namespace) -> str:
    robot_id, name = check_robot_id(arguments.robot_id), check_dataset_name(arguments.name)
    wanted = NewErasure(robot_id=robot_id, dataset=name)
    found = await ErasureTable(pool).holds(wanted)
    told = f"dataset {name} of {robot_id}"
    if found:
        told += f": {counted(found['versions'], 'version')}, {counted(found['files'], 'file')}"
    return await _erase(
        pool, wanted, told if found else f"{told}: nothing of it is stored", sure=arguments.yes
    )


async def _erase(pool: Pool, wanted: NewErasure, told: str, *, sure: bool) -> str:
    """Ask, unless `sure`, and erase; the account of it."""
    print(f"{told}\nIt is erased for good, and what a robot sends of it from now on is refused.")
    if not sure and not await asyncio.to_thread(_confirmed):
        raise BadInput("nothing was erased")
    table = ErasureTable(pool)
    begun = await table.ask(wanted, OPERATOR.name)
    subject = f"session {begun.session_id}" if begun.dataset is None else f"dataset {begun.dataset}"
    await TokenDirectory(pool).note(OPERATOR, None, "erase", f"{subject} of {begun.robot_id}")
    print(f"erasure {begun.id} has begun; Ctrl-C does not stop it, because the services do it", flush=True)
    told_problems: set[str] = set()
    while begun.status != "erased":
        for each in begun.services:
            if each.problem and each.problem not in told_problems:
                told_problems.add(each.problem)
                print(f"{each.service} waits: {shown(each.problem)}", flush=True)
        await asyncio.sleep(LOOK_EVERY_S)
        begun = await table.get(begun.id)
    return _account(begun)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise BadInput("nobody is there to be asked", hint="--yes erases without asking")
    return input("Erase it? Type yes: ").strip().lower() == "yes"


def _account(erased: ErasureView) -> str:
    lines = [f"erased at {told_time(erased.erased_at)}"]
    for each in erased.services:
        removed = ", ".join(_told(what, number) for what, number in each.removed.items())
        lines.append(f"  {each.service}: {removed or 'nothing was there'}")
    lines += ["not reached:", *(f"  {copy}" for copy in erased.not_reached)]
    return "\n".join(lines)


def _told(what: str, number: int) -> str:
    """A number of what was removed, as people write it."""
    if what == "objects_kept_for_others":
        return f"{counted(number, 'object')} kept for others"
    return counted(number, what.replace("_", " ").removesuffix("s"))


async def _list(pool: Pool, _arguments: argparse.Namespace) -> str:
    erasures = (await ErasureTable(pool).page(None, LISTED)).erasures
    rows = [
        (
            str(each.id),
            each.robot_id,
            each.dataset or f"session {each.session_id}",
            each.asked_by,
            told_time(each.asked_at),
            each.status,
        )
        for each in erasures
    ]
    return in_columns(("NUMBER", "ROBOT", "WHAT", "BY", "ASKED", "STATE"), rows)
