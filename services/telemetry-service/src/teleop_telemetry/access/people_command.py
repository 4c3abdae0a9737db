"""The commands `people` and `admin-link`, on a database that they are given."""

import argparse
from typing import Any

import msgspec
from teleop_runtime.access.forward_auth import ADMIN
from teleop_runtime.access.roles import PERSON_ROLES
from teleop_runtime.access.sessions import sign_in_link
from teleop_runtime.gate import TokenDirectory
from teleop_runtime.postgres.pool import Pool
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_robot_id

from teleop_telemetry.access.installation import OPERATOR, Installation, add_robots, in_columns, told_time
from teleop_telemetry.access.people_table import PeopleTable
from teleop_telemetry.access.people_views import MadeLink, PersonName


def add_commands(kinds: "argparse._SubParsersAction[Any]") -> None:
    """Add `people` and `admin-link` to the commands."""
    people = kinds.add_parser("people", help="let people sign in, and list them").add_subparsers(
        dest="command", required=True
    )
    add = people.add_parser(
        "add", help="print the link with which a person signs in: good once, for 15 minutes"
    )
    add.add_argument("name")
    add.add_argument("--role", required=True, choices=PERSON_ROLES, help="what they may do")
    add_robots(add)
    add.set_defaults(run=_add)
    link = people.add_parser("link", help="print a new link; the one before it does not work any more")
    link.add_argument("name")
    link.set_defaults(run=_new_link)
    people.add_parser("list", help="list the people, and whether they are signed in").set_defaults(run=_list)
    remove = people.add_parser("remove", help="end a person's links, sessions and tokens, within 5 s")
    remove.add_argument("name")
    remove.set_defaults(run=_remove)
    admin = kinds.add_parser(
        "admin-link", help=f"print a link for the person {ADMIN!r}, who may do everything"
    )
    admin.set_defaults(run=_link_admin)
    for each in (add, link, admin):
        each.add_argument(
            "--server",
            help="how browsers reach it, like http://192.168.1.5:8000; default: as its settings say",
        )


async def _add(pool: Pool, arguments: argparse.Namespace) -> str:
    try:
        name = msgspec.convert(arguments.name, PersonName)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{arguments.name!r} is not a name: 1 to 64 characters, without slashes", field="name"
        ) from error
    for robot_id in arguments.robot or ():
        check_robot_id(robot_id, field="--robot")
    page = _page(arguments)
    made, code = await PeopleTable(pool).add(
        name, arguments.role, arguments.robot, widens=arguments.all_robots
    )
    await TokenDirectory(pool).note(OPERATOR, None, "people add", f"the {made.role} {made.name}")
    return _told(made, page, code)


async def _new_link(pool: Pool, arguments: argparse.Namespace) -> str:
    page = _page(arguments)
    made, code = await PeopleTable(pool).link(arguments.name)
    await TokenDirectory(pool).note(OPERATOR, None, "people link", f"the {made.role} {made.name}")
    return _told(made, page, code)


async def _link_admin(pool: Pool, arguments: argparse.Namespace) -> str:
    page = _page(arguments)
    made, code = await PeopleTable(pool).add(ADMIN, "admin", None, widens=True)
    await TokenDirectory(pool).note(OPERATOR, None, "admin-link", f"the {made.role} {made.name}")
    return _told(made, page, code)


async def _list(pool: Pool, _arguments: argparse.Namespace) -> str:
    people = await PeopleTable(pool).people()
    rows = [
        (
            each.name,
            each.role,
            ",".join(each.robot_ids or ["all"]),
            str(each.sessions),
            told_time(each.last_used_at),
            "a link waits to be used" if each.waiting else "",
        )
        for each in people
    ]
    return in_columns(("NAME", "ROLE", "ROBOTS", "SIGNED IN", "LAST USED", ""), rows)


async def _remove(pool: Pool, arguments: argparse.Namespace) -> str:
    await PeopleTable(pool).remove(arguments.name)
    await TokenDirectory(pool).note(OPERATOR, None, "people remove", arguments.name)
    return f"{arguments.name} is removed; links, sessions and tokens of that name have ended"


def _page(arguments: argparse.Namespace) -> str:
    """Address of the page to sign in on, at a server that may have a path."""
    on: Installation = arguments.on
    server = on.reached(arguments.server)
    return f"{server.scheme}://{server.netloc}{server.path.rstrip('/')}/sign-in"


def _told(made: MadeLink, page: str, code: str) -> str:
    return (
        f"{sign_in_link(page, code)}\n"
        f"Good once, until {told_time(made.expires_at)}: it signs {made.name} in, with the role {made.role}."
    )
