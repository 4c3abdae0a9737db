"""What is said about pools, and about robots that ask to join."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from teleop_schema.identifiers import RobotId

# A part of addresses, and of commands.
PoolName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$(?!\n)",
        description="Name of a pool",
        examples=["arms"],
    ),
]
# What the names of robots can begin with.
Prefix = Annotated[
    str, Meta(max_length=60, pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$(?!\n)", examples=["arm_"])
]


class NewPool(Struct, forbid_unknown_fields=True, kw_only=True):
    """A line to make, for the images of a fleet.

    name        by which it is listed and removed
    prefix      what the names of its robots begin with; "": anything
    max_robots  how many robots may join with it; null: any number
    approve     whether each robot waits until an admin approves
    expires_at  RFC 3339 with its offset, after which no robot joins any more; null: never
    """

    name: PoolName
    prefix: Prefix = ""
    max_robots: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    approve: bool = False
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class PoolView(Struct, kw_only=True):
    """A line for a fleet, without what makes it one.

    prefix      what the names of its robots begin with; "": anything
    max_robots  how many robots may join with it; null: any number
    approve     whether each robot waits until an admin approves
    beginning   how the token in its line begins
    expires_at  when no robot joins with it any more; null: never
    robots      how many have joined
    waiting     how many wait until an admin approves, or have not come back since
    """

    name: PoolName
    prefix: str
    max_robots: int | None
    approve: bool
    beginning: str
    created_at: datetime
    expires_at: datetime | None
    robots: int
    waiting: int


class Pools(Struct):
    """Lines for fleets.

    pools  by name
    """

    pools: list[PoolView]


class MadePool(PoolView, kw_only=True):
    """A new line for a fleet.

    line  for `sync-agent join`, or LEROBOT_BACKEND_JOIN, on each robot's computer; shown only here
    """

    line: str


class Asking(Struct, forbid_unknown_fields=True, kw_only=True):
    """A robot's computer that asks to join. Asking again with the same secret is asking how far it is.

    robot_id  the name that the robot is to have
    secret    43 random characters, made by the computer: 256 bits in URL-safe base64
    pool      the token in the line of its fleet; null: it has none, and an admin has to approve
    """

    robot_id: RobotId
    secret: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}$(?!\n)")]
    pool: Annotated[str, Meta(max_length=128)] | None = None


class Asked(Struct, kw_only=True):
    """How far a request to join is.

    code        by which an admin tells this computer from others
    token       the token itself, which is shown only here; null: an admin has not approved yet
    expires_at  when the request stops waiting
    """

    robot_id: RobotId
    code: str
    token: str | None
    expires_at: datetime


class JoinRequest(Struct, kw_only=True):
    """A robot's computer that waits to join.

    code        which the computer shows, too
    known       whether there is a robot of that name already, whose data this computer could then read
    pool        by whose line it asks; null: it has none
    address     where it asks from; of IPv6, the network
    expires_at  when the request stops waiting
    approved    whether it needs only to come back for its token
    """

    robot_id: RobotId
    code: str
    known: bool
    pool: str | None
    address: str
    asked_at: datetime
    expires_at: datetime
    approved: bool


class JoinRequests(Struct):
    """Computers that wait to join.

    requests  the oldest first
    pin       of this backend's certificate authority: a computer that asks without a line shows the pin of
              whoever answers it, and an admin compares the two; null: this backend has no own authority
    """

    requests: list[JoinRequest]
    pin: str | None
