"""A simulated SO-101: a leader that moves by itself and a follower that lags and clips like a real arm."""

import math

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
NAMES = tuple(f"{joint}.pos" for joint in JOINTS)

# Middle, amplitude and period of each joint's motion: degrees, gripper 0 (closed) to 100 (open).
_MOTION = {
    "shoulder_pan": (0.0, 60.0, 7.0),
    "shoulder_lift": (-40.0, 35.0, 5.0),
    "elbow_flex": (50.0, 30.0, 4.0),
    "wrist_flex": (20.0, 40.0, 3.0),
    "wrist_roll": (0.0, 80.0, 11.0),
    "gripper": (50.0, 45.0, 2.5),
}
REST = {f"{joint}.pos": middle for joint, (middle, _, _) in _MOTION.items()}

# Share of the remaining way that the follower covers per command, as a position controller at 60 Hz does.
FOLLOW_RATE = 0.4


def leader_positions(elapsed_s: float) -> dict[str, float]:
    """Where the leader's joints are `elapsed_s` seconds after its start: smooth, the same on every run.

    returns  name ("shoulder_pan.pos") -> degrees, for the gripper 0 to 100
    """
    return {
        f"{joint}.pos": middle + amplitude * math.sin(2.0 * math.pi * elapsed_s / period_s)
        for joint, (middle, amplitude, period_s) in _MOTION.items()
    }


class VirtualArm:
    """A follower arm: each command moves it a part of the way to the goal.

    max_relative_target  largest distance between goal and position that a command may have, degrees;
                         goals further away are clipped, as LeRobot's followers do. None: never clipped
    """

    def __init__(self, max_relative_target: float | None = None) -> None:
        self.max_relative_target = max_relative_target
        self._positions = dict(REST)

    @property
    def positions(self) -> dict[str, float]:
        """name -> degrees, for the gripper 0 to 100; a new dictionary each time."""
        return dict(self._positions)

    def command(self, goal: dict[str, float]) -> dict[str, float]:
        """Move towards `goal` (name -> degrees); returns the goal that the arm really took, clipped.

        Raises ValueError naming a joint that this arm does not have.
        """
        taken = {}
        for name, wanted in goal.items():
            if name not in self._positions:
                raise ValueError(f"this arm has no {name!r}; it has {', '.join(self._positions)}")
            position = self._positions[name]
            if self.max_relative_target is not None:
                way = max(-self.max_relative_target, min(self.max_relative_target, wanted - position))
                wanted = position + way
            taken[name] = wanted
            self._positions[name] = position + FOLLOW_RATE * (wanted - position)
        return taken
