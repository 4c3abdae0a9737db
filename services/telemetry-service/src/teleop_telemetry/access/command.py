"""The commands of an admin, on a database that they are given: `robots`, `tokens`, `people`, `erase`."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from teleop_runtime.access.codes import joining_line
from teleop_runtime.access.roles import ROLES
from teleop_runtime.gate import TokenDirectory
from teleop_runtime.postgres.pool import Pool, open_pool
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.settings import GB
from teleop_runtime.trouble import trouble_of
from teleop_schema.commands.command_line import Parser
from teleop_schema.errors import BackendError
from teleop_schema.identifiers import check_robot_id
from teleop_schema.words import shown_lines, size_text

from teleop_telemetry.access import erase_command, people_command
from teleop_telemetry.access.fleet import command as fleet_command
from teleop_telemetry.access.installation import (
    OPERATOR,
    Installation,
    add_robots,
    days,
    in_columns,
    told_time,
)
from teleop_telemetry.access.quota_endpoints import MAX_LIMIT_BYTES
from teleop_telemetry.access.token_table import TokenTable
from teleop_telemetry.access.views import RobotAccess, TokenView
from teleop_telemetry.tables.robot_quota import QuotaTable, RobotUsage

# Two of them: one for the command, one to note what it did.
CONNECTIONS = 2
# All there are; a terminal shows no pages.
LISTED = 100_000

type Command = Callable[[Pool, argparse.Namespace], Awaitable[str]]


def run(prog: str, find: Callable[[], Installation], words: Sequence[str]) -> int:
    """Run `robots …` or another of them; the exit status, with the reason on standard error.

    prog   how the command is called, without `robots`
    find   gives what it works on, once the words are understood
    words  from `robots` on
    """
    arguments = _parser(prog).parse_args(words)
    try:
        print(shown_lines(asyncio.run(_run(arguments, find()))))
        return 0
    except BackendError as error:
        reason = f"{error.detail}{f'; {error.hint}' if error.hint else ''}"
    except CannotStart as error:
        reason = str(error)
    except Exception as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        reason = f"{trouble.detail}{f'; {trouble.hint}' if trouble.hint else ''}"
    print(f"error: {shown_lines(reason)}", file=sys.stderr)
    return 1


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Say who may use the backend, and erase recordings.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    robots = kinds.add_parser("robots", help="let robots join, and list them").add_subparsers(
        dest="command", required=True
    )
    add = robots.add_parser("add", help="print the line with which a robot joins: good once, for 15 minutes")
    add.add_argument("robot_id")
    add.add_argument(
        "--server",
        help="how the robot reaches this backend, like http://192.168.1.5:8000; default: as its settings say",
    )
    add.set_defaults(run=_add_robot)
    robots.add_parser(
        "list", help="list the robots, whether they have tokens, and what is kept of their files"
    ).set_defaults(run=_list_robots)
    quota = robots.add_parser("quota", help="say how much the video and datasets of a robot may take")
    quota.add_argument("robot_id")
    quota.add_argument(
        "limit", type=_quota, help="GB, like 200; or `default`: as LEROBOT_BACKEND_ROBOT_QUOTA_GB says of all"
    )
    quota.set_defaults(run=_set_quota)
    fleet_command.add_commands(robots)
    tokens = kinds.add_parser("tokens", help="make, list and revoke tokens").add_subparsers(
        dest="command", required=True
    )
    make = tokens.add_parser("add", help="make a token, and print it; nothing shows it again")
    make.add_argument("name", help="of the person or program; of the robot, for the role robot")
    make.add_argument("--role", required=True, choices=ROLES, help="what it may do")
    add_robots(make)
    make.add_argument("--days", type=days, help="days until it expires; default: never")
    make.set_defaults(run=_add_token)
    tokens.add_parser("list", help="list tokens, without the tokens themselves").set_defaults(
        run=_list_tokens
    )
    revoke = tokens.add_parser("revoke", help="end a token; its connections end within 5 s")
    revoke.add_argument("token", help="its number or its beginning, as `tokens list` shows them")
    revoke.set_defaults(run=_revoke_token)
    people_command.add_commands(kinds)
    erase_command.add_commands(kinds)
    return parser


async def _run(arguments: argparse.Namespace, on: Installation) -> str:
    command: Command = arguments.run
    arguments.on = on
    async with open_pool(on.database_url, max_size=CONNECTIONS) as pool:
        return await command(pool, arguments)


async def _add_robot(pool: Pool, arguments: argparse.Namespace) -> str:
    robot_id = check_robot_id(arguments.robot_id)
    on: Installation = arguments.on
    server = on.reached(arguments.server)
    code, expires_at = await TokenTable(pool).enrol(robot_id)
    await TokenDirectory(pool).note(OPERATOR, None, "robots add", robot_id)
    address = server.netloc + server.path.rstrip("/")
    line = joining_line(address, code, tls=server.scheme == "https", authority=on.authority)
    until = told_time(expires_at)
    return f"{line}\nGood once, until {until}. On the robot's computer: sync-agent join '{line}'"


async def _list_robots(pool: Pool, arguments: argparse.Namespace) -> str:
    robots = {each.robot_id: each for each in await TokenTable(pool).robots()}
    quotas = QuotaTable(pool, arguments.on.robot_quota_bytes)
    usages = await quotas.usages()
    rows = []
    # Also one that has only a quota: perhaps its name was misspelt.
    for robot_id in sorted(robots.keys() | usages.keys()):
        robot = robots.get(robot_id) or RobotAccess(robot_id, 0, None, waiting=False)
        usage = usages.get(robot_id) or quotas.of_none(robot_id)
        state = "waiting for it to join" if robot.waiting else "" if robot_id in robots else "never seen"
        if robot.clashing_sessions:
            both = " and ".join(map(str, robot.clashing_sessions))
            clash = f"two computers recorded as it: sessions {both}, {told_time(robot.clashed_at)}"
            state = f"{state}; {clash}" if state else clash
        rows.append((robot_id, str(robot.tokens), told_time(robot.last_used_at), _told_usage(usage), state))
    return in_columns(("ROBOT", "TOKENS", "LAST USED", "FILES", ""), rows)


async def _set_quota(pool: Pool, arguments: argparse.Namespace) -> str:
    robot_id, limit_bytes = check_robot_id(arguments.robot_id), arguments.limit
    quotas = QuotaTable(pool, arguments.on.robot_quota_bytes)
    if limit_bytes is None:
        await quotas.remove(robot_id)
    else:
        await quotas.set(robot_id, limit_bytes)
    told = "as all robots" if limit_bytes is None else size_text(limit_bytes)
    await TokenDirectory(pool).note(OPERATOR, None, "robots quota", f"{robot_id}: {told}")
    usage = await quotas.usage(robot_id)
    answer = f"{robot_id}: {_told_usage(usage)}"
    if usage.used_bytes == 0 and robot_id not in {each.robot_id for each in await TokenTable(pool).robots()}:
        answer += f"\nNo robot has come as {robot_id} yet: `robots list` shows those that have."
    return answer


def _quota(word: str) -> int | None:
    """Bytes of a quota in GB; None: that of all robots. Raises argparse's error."""
    if word == "default":
        return None
    try:
        limit_bytes = int(float(word) * GB)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number of GB nor `default`") from None
    if not 1 <= limit_bytes <= MAX_LIMIT_BYTES:
        raise argparse.ArgumentTypeError(f"{word} GB is not between 0 and {MAX_LIMIT_BYTES // GB}")
    return limit_bytes


def _told_usage(usage: RobotUsage) -> str:
    used = "not counted yet" if usage.used_bytes is None else size_text(usage.used_bytes)
    return used if usage.limit_bytes is None else f"{used}, may take {size_text(usage.limit_bytes)}"


async def _add_token(pool: Pool, arguments: argparse.Namespace) -> str:
    if arguments.role == "robot":
        check_robot_id(arguments.name, field="name")
    for robot_id in arguments.robot or ():
        check_robot_id(robot_id, field="--robot")
    expires_at = arguments.days and datetime.now(UTC) + timedelta(days=arguments.days)
    made = await TokenTable(pool).add(
        arguments.name, arguments.role, arguments.robot, expires_at, widens=arguments.all_robots
    )
    subject = f"{made.prefix}… of the {made.role} {made.name}"
    await TokenDirectory(pool).note(OPERATOR, None, "tokens add", subject)
    return made.token


async def _list_tokens(pool: Pool, _arguments: argparse.Namespace) -> str:
    tokens = (await TokenTable(pool).page(None, LISTED)).tokens
    rows = [
        (
            str(each.id),
            each.prefix,
            each.role,
            each.name,
            ",".join(each.robot_ids or ["all"]),
            told_time(each.last_used_at),
            _state(each),
        )
        for each in tokens
    ]
    return in_columns(("NUMBER", "BEGINS WITH", "ROLE", "NAME", "ROBOTS", "LAST USED", "STATE"), rows)


async def _revoke_token(pool: Pool, arguments: argparse.Namespace) -> str:
    table = TokenTable(pool)
    token = await table.named(arguments.token)
    await table.revoke(token.id)
    await TokenDirectory(pool).note(OPERATOR, None, "tokens revoke", f"{token.prefix}… of {token.name}")
    return f"{token.prefix}… of the {token.role} {token.name} is revoked"


def _state(token: TokenView) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "valid"
    said = "expired" if token.expires_at <= datetime.now(UTC) else "valid until"
    return f"{said} {told_time(token.expires_at)}"
