"""What is said about erasures."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from teleop_schema.identifiers import MAX_ID, RobotId

# What no service can reach, whatever is erased.
BACKUPS = "backups of the database and of the file store (make backup): they have it as of their time"


class NewErasure(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to erase: a session, or the backup of a dataset with all of its versions.

    session_id  number of the session
    robot_id    of a dataset: the robot that it is of
    dataset     its name
    """

    session_id: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    robot_id: RobotId | None = None
    dataset: Annotated[str, Meta(min_length=1, max_length=1000, examples=["someone/picking"])] | None = None


class ShareView(Struct, kw_only=True):
    """How far one service is.

    service  its name
    done_at  when nothing was left of what it stores; null: it is not done
    removed  how many of what it has removed so far
    problem  why it could not go on when it last tried; it tries again by itself
    """

    service: str
    done_at: datetime | None
    removed: dict[str, int]
    problem: str | None


class ErasureView(Struct, kw_only=True):
    """An erasure.

    session_id   what is erased; null: a dataset
    dataset      what is erased; null: a session
    robot_id     the robot that it is of
    asked_by     who asked for it
    status       erasing: services are at it; erased: nothing is left that they could reach
    erased_at    when the last service was done
    services     how far each is
    not_reached  copies that nobody here can remove
    """

    id: int
    session_id: int | None
    robot_id: str
    dataset: str | None
    asked_by: str
    asked_at: datetime
    status: Literal["erasing", "erased"]
    erased_at: datetime | None
    services: list[ShareView]
    not_reached: list[str]


class ErasurePage(Struct):
    """Erasures, newest first.

    erasures     of this page
    next_cursor  the `cursor` of the next page; null: there is none
    """

    erasures: list[ErasureView]
    next_cursor: int | None
