"""People whom a reverse proxy has signed in (`forward_auth`, `auth_request`): what its headers say; pure.

Anybody can send such headers, so only those of known proxies count.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from teleop_schema.errors import BadRobotId, Unauthorized
from teleop_schema.identifiers import check_robot_id

from teleop_runtime.access.roles import PERSON_ROLES, Role

# Where a request has it, in its scope.
VOUCHED = "lerobot.vouched"
# Whom `admin-link` signs in. At the proxy, people may have chosen that name themselves.
ADMIN = "admin"
# Of a map of groups: everybody whom the proxy lets in.
EVERYBODY = "*"
MAX_NAME_LENGTH = 255
# As HTTP has them.
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# What Caddy puts into a header that it copies, if the answer of who signs people in lacks it: that is nobody.
_UNFILLED = re.compile(r"\{[^{}]*\}")

type RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Grant:
    """What somebody may do.

    robot_ids  the only robots whose data it is about; None: all
    """

    role: Role
    robot_ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Vouched:
    """Somebody for whom the proxy vouches.

    grant  what the groups give; None: nothing
    """

    name: str
    grant: Grant | None


@dataclass(frozen=True)
class ForwardAuth:
    """What the headers of a proxy mean.

    grants  what each group gives
    """

    grants: Mapping[str, Grant] = field(default_factory=dict)
    user_header: str = "Remote-User"
    groups_header: str = "Remote-Groups"

    def read(self, headers: RawHeaders) -> Vouched | None:
        """For whom the proxy vouches; None: for nobody. Raises Unauthorized if that can't be understood."""
        names = self._values(headers, self.user_header)
        # One may be the client's own, which the proxy has passed on.
        if len(names) > 1:
            raise Unauthorized(
                f"the proxy sends {self.user_header} more than once",
                field=self.user_header,
                hint="let it replace what clients send in that header",
            )
        if not names or not names[0] or _UNFILLED.fullmatch(names[0]):
            return None
        name = names[0]
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise Unauthorized("the proxy sends a name that nobody can have", field=self.user_header)
        groups = [
            group.strip() for value in self._values(headers, self.groups_header) for group in value.split(",")
        ]
        return Vouched(name, self._grant(groups))

    def without(self, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """The headers without those that are about people."""
        ours = {self.user_header.lower().encode(), self.groups_header.lower().encode()}
        return [(name, value) for name, value in headers if name.lower() not in ours]

    def _values(self, headers: RawHeaders, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [_text(value).strip() for key, value in headers if key.lower() == wanted]

    def _grant(self, groups: Sequence[str]) -> Grant | None:
        """The highest of the roles, for the robots of all groups that give it."""
        given = [self.grants[group] for group in (EVERYBODY, *groups) if group in self.grants]
        if not given:
            return None
        role = max((grant.role for grant in given), key=PERSON_ROLES.index)
        # A lower role for more robots does not widen the higher one.
        lists = [grant.robot_ids for grant in given if grant.role == role]
        robots: set[str] = set()
        for each in lists:
            if each is None:
                return Grant(role)
            robots |= each
        return Grant(role, frozenset(robots))


def read_grants(text: str) -> dict[str, Grant]:
    """What each group gives: `admins=admin, students=viewer:robot_A robot_B`; raises ValueError."""
    grants: dict[str, Grant] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        group, _, given = (word.strip() for word in part.rpartition("="))
        role, narrowed, robots = given.partition(":")
        known = next((each for each in PERSON_ROLES if each == role.strip()), None)
        if not group or known is None:
            raise ValueError(f"{part!r} is not a group and a role, like students=viewer ({_ROLES})")
        robot_ids = frozenset(robots.split())
        if narrowed and not robot_ids:
            raise ValueError(f"{part!r} names no robots, like students=viewer:robot_A robot_B")
        try:
            all(map(check_robot_id, robot_ids))
        except BadRobotId as error:
            raise ValueError(f"{part!r}: {error}") from error
        if group in grants:
            raise ValueError(f"{group!r} is named twice")
        grants[group] = Grant(known, robot_ids or None)
    return grants


def check_header(name: str) -> str:
    """The name of a header; raises ValueError if it can't be one."""
    if not _HEADER.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header like Remote-User")
    return name


_ROLES = ", ".join(PERSON_ROLES)


def _text(value: bytes) -> str:
    """Names are sent as UTF-8, though HTTP knows nothing of it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
