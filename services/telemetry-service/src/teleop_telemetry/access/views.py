"""What is said about tokens, enrolments and changes."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from teleop_runtime.access.roles import Role
from teleop_schema.identifiers import RobotId

# `$` alone would let a line break at the end pass.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$(?!\n)"
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=PRINTABLE, examples=["anna"])]


class NewToken(Struct, forbid_unknown_fields=True, kw_only=True):
    """A token to make.

    name        of the person or program; of the robot, if that is the role
    role        what it may do
    robot_ids   the only robots whose data it may touch; null, or left out: all, but left out nobody is let
                to all who was for some only. Older tokens of that name and role follow: what a principal
                may do is said once, for all its tokens
    expires_at  RFC 3339 with its offset; null: never
    """

    name: Name
    role: Role
    robot_ids: Annotated[tuple[RobotId, ...], Meta(min_length=1, max_length=1000)] | UnsetType | None = UNSET
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class TokenView(Struct, kw_only=True):
    """A token, without what makes it one.

    name          whose it is
    role          what it may do
    robot_ids     the only robots whose data it may touch; null: all
    expires_at    when it stops working; null: never
    prefix        how it begins; logs and errors name it so
    last_used_at  to the minute; null: never
    revoked_at    null: it was not revoked
    """

    id: int
    name: str
    role: Role
    robot_ids: list[str] | None
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class MadeToken(TokenView, kw_only=True):
    """A new token.

    token  the token itself, which is shown only here
    """

    token: str


class TokenPage(Struct):
    """Tokens, newest first.

    tokens       of this page
    next_cursor  the `cursor` of the next page; null: there is none
    """

    tokens: list[TokenView]
    next_cursor: int | None


class Enrolment(Struct):
    """How a robot joins: one line, good once and for 15 minutes.

    code        what the line holds, for those who type it
    line        for `sync-agent join` on the robot's computer
    expires_at  when it stops working
    """

    robot_id: RobotId
    code: str
    line: str
    expires_at: datetime


class Joining(Struct, forbid_unknown_fields=True):
    """A robot that joins.

    code  of the line that it was given
    """

    code: Annotated[str, Meta(max_length=64, examples=["K7QF-2M9P"])]


class Joined(Struct):
    """What a robot needs from now on.

    token       the token itself, which is shown only here
    expires_at  null: never
    """

    robot_id: RobotId
    token: str
    expires_at: datetime | None


class Change(Struct, kw_only=True):
    """One change, and who made it.

    at            when
    role          of whoever made it
    principal     who; for whoever showed no token, why it was let in
    token_prefix  how the token begins that it showed; null: it showed none
    address       where it came from; behind a proxy, the proxy's; null: from a socket, or a command
    action        what was done: the `operationId` of the request, or the name of the command
    subject       what it was done to
    """

    id: int
    at: datetime
    principal: str
    role: str
    token_prefix: str | None
    address: str | None
    action: str
    subject: str


class ChangePage(Struct):
    """Changes, newest first.

    changes      of this page
    next_cursor  the `cursor` of the next page; null: there is none
    """

    changes: list[Change]
    next_cursor: int | None


class RobotAccess(Struct):
    """A robot, and whether it has a token.

    tokens        how many work now
    last_used_at  of any of them, to the minute; null: never
    waiting       whether it was given a line that it has not used yet
    clashing_sessions
                  sessions that two computers have recorded as it at the same time, within the last week
    clashed_at    when they last did
    """

    robot_id: str
    tokens: int
    last_used_at: datetime | None
    waiting: bool
    clashing_sessions: list[int] = []
    clashed_at: datetime | None = None
