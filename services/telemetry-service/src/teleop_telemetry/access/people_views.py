"""What is said about people, and how they sign in."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from teleop_runtime.access.principal import How
from teleop_runtime.access.roles import Need, PersonRole, Role
from teleop_schema.identifiers import RobotId

# Printable, no slash, for it is a part of an address; `$` alone would let a line break at the end pass.
PersonName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[^\x00-\x1f\x7f/]*$(?!\n)",
        description="Name of a person",
        examples=["anna"],
    ),
]


class NewPerson(Struct, forbid_unknown_fields=True, kw_only=True):
    """A person who is to sign in.

    name       also by what a proxy knows them, if one signs people in; upper and lower case are the same
    role       what they may do
    robot_ids  the only robots whose data they may touch; null, or left out: all, but left out nobody is let
               to all who was for some only. Tokens of that name and role follow
    """

    name: PersonName
    role: PersonRole
    robot_ids: Annotated[tuple[RobotId, ...], Meta(min_length=1, max_length=1000)] | UnsetType | None = UNSET


class PersonView(Struct, kw_only=True):
    """A person who may sign in.

    role          what they may do
    robot_ids     the only robots whose data they may touch; null: all
    sessions      how many browsers are signed in
    last_used_at  of any of them, to the minute; null: never
    waiting       whether a link waits to be used
    """

    name: str
    role: PersonRole
    robot_ids: list[str] | None
    created_at: datetime
    sessions: int
    last_used_at: datetime | None
    waiting: bool


class People(Struct):
    """Whoever may sign in by a link.

    people  by name
    """

    people: list[PersonView]


class MadeLink(Struct, kw_only=True):
    """For whom a link is.

    role        what they may do
    robot_ids   the only robots whose data they may touch; null: all
    expires_at  when it stops working
    """

    name: str
    role: PersonRole
    robot_ids: list[str] | None
    expires_at: datetime


class SignInLink(MadeLink, kw_only=True):
    """A link that signs a person in: good once, and for 15 minutes.

    link  for that person alone; shown only here
    """

    link: str


class SigningIn(Struct, forbid_unknown_fields=True):
    """Somebody who signs in.

    code  what follows `#` in a link, or a token
    """

    code: Annotated[str, Meta(max_length=128, examples=["gZ1bXGvQm0N2Yw7JtD3iKqfR5eUoAhVsLpC8xB9rTyE"])]


class SignedIn(Struct, kw_only=True):
    """Who has signed in; the answer's cookie is the session.

    role        what they may do
    robot_ids   the only robots whose data they may touch; null: all
    expires_at  when the session ends, if it does not end sooner: 14 days after its last use
    """

    name: str
    role: Role
    robot_ids: list[str] | None
    expires_at: datetime


class Caller(Struct, kw_only=True):
    """Who calls, and what they may do.

    name        of the person, robot or program; else why they are let in
    role        what they may do
    robot_ids   the only robots whose data they may touch; null: all
    how         by what they are known: a token; the session of a browser; a proxy that has signed them in;
                or where they are, the machine of the backend or a network that it trusts
    may         what addresses may ask of a caller, and this one fulfils; where it may `push` to, says GET
                /exports/destinations
    expires_at  when the token or session ends; null: never, or the backend does not know
    """

    name: str
    role: Role
    robot_ids: list[str] | None
    how: How
    may: list[Need]
    expires_at: datetime | None
