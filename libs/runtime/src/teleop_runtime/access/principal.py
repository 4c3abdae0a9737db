"""Who calls: a person, a robot, a service, or whoever is let in without a token."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from teleop_schema.errors import NotAllowed

from teleop_runtime.access.roles import ALLOWED, Need, Role, roles_for

# By what the backend knows who calls.
How = Literal["token", "session", "proxy", "this machine", "network"]


@dataclass(frozen=True)
class Principal:
    """Who calls, and what it may do.

    name        of the robot or person; for whoever shows no token, why it is let in
    robot_ids   the only robots whose data it may touch; None: all
    how         by what it is known
    token_id    the row of its token; None: it has shown none
    session_id  the row of its session; None: it has shown none
    prefix      beginning of its token, or of the one that its session came of
    expires_at  end of its token, or of its session
    """

    name: str
    role: Role
    robot_ids: frozenset[str] | None = None
    how: How = "token"
    token_id: int | None = None
    session_id: int | None = None
    prefix: str | None = None
    expires_at: datetime | None = None

    @property
    def _shown(self) -> str:
        """What messages call it: a program hears of its token, a person of themselves."""
        return "this token" if self.how == "token" else self.name[:100]

    def check_need(self, need: Need) -> None:
        """Raise NotAllowed unless the role includes it."""
        if self.role not in ALLOWED[need]:
            raise NotAllowed(
                f"{self._shown} has the role {self.role}, and this needs the role {roles_for(need)}",
                hint="docs/howto/who-may-do-what.md lists what each role may do",
            )

    def check_robot(self, robot_id: str, *, field: str = "robot_id") -> None:
        """Raise NotAllowed if the data of this robot is not for it."""
        if self.robot_ids is not None and robot_id not in self.robot_ids:
            mine = ", ".join(sorted(self.robot_ids))
            raise NotAllowed(
                f"{self._shown} is for data of {mine} only, not of {robot_id[:100]}", field=field
            )

    def may_touch(self, robot_ids: Collection[str]) -> bool:
        """Whether something that is of these robots is for it; where it is for some robots only, what is of
        no robot is not."""
        return self.robot_ids is None or (bool(robot_ids) and self.robot_ids.issuperset(robot_ids))

    def keeps(self, robot_ids: Collection[str] | None) -> bool:
        """Whether it may still touch all that it could, if it is for these robots from now on; None: all."""
        return robot_ids is None or (self.robot_ids is not None and self.robot_ids.issubset(robot_ids))

    def chosen_robot(self, robot_id: str | None) -> str | None:
        """The robot to list: the one that is asked for, else the only one that is for it; None: all.

        Raises NotAllowed if that is not for it, or if it has to choose one.
        """
        if self.robot_ids is None:
            return robot_id
        if robot_id is None and len(self.robot_ids) == 1:
            return next(iter(self.robot_ids))
        if robot_id is None:
            self.check_all_robots()
        else:
            self.check_robot(robot_id)
        return robot_id

    def check_all_robots(self) -> None:
        """Raise NotAllowed if it may touch the data of some robots only."""
        if self.robot_ids is not None:
            mine = ", ".join(sorted(self.robot_ids))
            raise NotAllowed(
                f"{self._shown} is for data of {mine} only, and this is about all robots",
                hint="name a robot_id, if the address takes one",
            )


# Whoever the posture lets in without a token.
THIS_MACHINE = Principal("this machine", "admin", how="this machine")
THE_NETWORK = Principal("the trusted network", "admin", how="network")
A_MONITOR = Principal("whoever reads the metrics", "metrics", how="network")
