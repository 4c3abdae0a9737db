"""The commands `robots pool …`, `robots waiting`, `robots approve` and `robots deny`."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from teleop_runtime.access.codes import pool_line
from teleop_runtime.gate import TokenDirectory
from teleop_runtime.postgres.pool import Pool
from teleop_schema.certificates.pins import pin_of
from teleop_schema.errors import BadInput

from teleop_telemetry.access.fleet.table import FleetTable
from teleop_telemetry.access.fleet.views import NewPool
from teleop_telemetry.access.installation import OPERATOR, Installation, days, in_columns, told_time


def add_commands(robots: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the commands of `robots`."""
    pool = robots.add_parser("pool", help="lines for images of a fleet, whose robots join by themselves")
    commands = pool.add_subparsers(dest="subcommand", required=True)
    add = commands.add_parser("add", help="print a line with which new robots join; nothing shows it again")
    add.add_argument("name", help="by which it is listed and removed")
    add.add_argument("--prefix", default="", help="only robots whose names begin so; default: any")
    add.add_argument("--max", type=int, dest="most", help="how many robots may join; default: any number")
    add.add_argument("--days", type=days, help="days until it expires; default: never")
    add.add_argument("--approve", action="store_true", help="each robot waits until an admin approves")
    add.add_argument(
        "--server",
        help="how robots reach this backend, like http://192.168.1.5:8000; default: as its settings say",
    )
    add.set_defaults(run=_add_pool)
    commands.add_parser("list", help="list them, without the lines").set_defaults(run=_list_pools)
    remove = commands.add_parser("remove", help="let no more robots join with it; those that have stay")
    remove.add_argument("name")
    remove.set_defaults(run=_remove_pool)
    robots.add_parser("waiting", help="list robots that ask to join").set_defaults(run=_list_waiting)
    approve = robots.add_parser("approve", help="let a robot in that asks to join")
    approve.add_argument("code", help="which the robot's computer shows")
    approve.set_defaults(run=_approve)
    deny = robots.add_parser("deny", help="refuse a robot that asks to join")
    deny.add_argument("code", help="which the robot's computer shows")
    deny.set_defaults(run=_deny)


async def _add_pool(pool: Pool, arguments: argparse.Namespace) -> str:
    on: Installation = arguments.on
    server = on.reached(arguments.server)
    expires_at = arguments.days and datetime.now(UTC) + timedelta(days=arguments.days)
    said = {
        "name": arguments.name,
        "prefix": arguments.prefix,
        "max_robots": arguments.most,
        "approve": arguments.approve,
        "expires_at": expires_at,
    }
    try:
        wanted = msgspec.convert(said, NewPool)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{arguments.name!r} {arguments.prefix!r} {arguments.most or ''}: {error}",
            hint="names and prefixes are letters, digits, _ . and -; --max is 1 or more",
        ) from error
    made, token = await FleetTable(pool).add_pool(wanted)
    await TokenDirectory(pool).note(OPERATOR, None, "robots pool add", f"the pool {made.name}")
    address = server.netloc + server.path.rstrip("/")
    robot_id = f"{made.prefix or 'robot_'}01"
    line = pool_line(address, token, tls=server.scheme == "https", authority=on.authority)
    return (
        f"{line}\nOn each robot's computer: sync-agent join '{line}' --robot_id {robot_id}, or "
        "LEROBOT_BACKEND_JOIN in the agent's settings"
    )


async def _list_pools(pool: Pool, _arguments: argparse.Namespace) -> str:
    rows = [
        (
            each.name,
            f"{each.prefix}…" if each.prefix else "any",
            f"{each.robots}{'' if each.max_robots is None else f' of {each.max_robots}'}",
            str(each.waiting),
            "an admin approves" if each.approve else "at once",
            told_time(each.expires_at),
        )
        for each in await FleetTable(pool).pools()
    ]
    return in_columns(("POOL", "ROBOTS", "JOINED", "WAITING", "JOIN", "EXPIRES"), rows)


async def _remove_pool(pool: Pool, arguments: argparse.Namespace) -> str:
    await FleetTable(pool).remove_pool(arguments.name)
    await TokenDirectory(pool).note(OPERATOR, None, "robots pool remove", f"the pool {arguments.name}")
    return f"no more robots join with the pool {arguments.name}; those that have joined keep their tokens"


async def _list_waiting(pool: Pool, arguments: argparse.Namespace) -> str:
    on: Installation = arguments.on
    requests = await FleetTable(pool).waiting()
    rows = [
        (
            each.code,
            each.robot_id,
            each.pool or "",
            each.address,
            told_time(each.expires_at),
            "approved" if each.approved else "a robot of that name EXISTS" if each.known else "",
        )
        for each in requests
    ]
    told = in_columns(("CODE", "ROBOT", "POOL", "ADDRESS", "WAITS UNTIL", ""), rows)
    if on.authority is None:
        return told
    return f"{told}\nThis backend's pin, which the robot's computer must show: {pin_of(on.authority)}"


async def _approve(pool: Pool, arguments: argparse.Namespace) -> str:
    approved = await FleetTable(pool).approve(arguments.code)
    subject = f"{approved.robot_id} ({approved.code})"
    await TokenDirectory(pool).note(OPERATOR, None, "robots approve", subject)
    also = ", as another computer has before" if approved.known else ""
    return f"{approved.robot_id} joins within a minute{also}"


async def _deny(pool: Pool, arguments: argparse.Namespace) -> str:
    denied = await FleetTable(pool).deny(arguments.code)
    await TokenDirectory(pool).note(OPERATOR, None, "robots deny", f"{denied.robot_id} ({denied.code})")
    return f"the computer that asked to join as {denied.robot_id} is refused"
