"""The flags there are: what each measures, its threshold, and why it matters. Pure."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

FlagName = Literal[
    "dropped_frames",
    "rate_off",
    "stall",
    "old_observation",
    "not_finite",
    "frozen_joint",
    "saturated",
    "jump",
    "jerk",
    "idle_start",
    "idle_end",
    "leader_offset",
    "odd_length",
    "odd_end",
    "duplicate",
]


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of flag.

    unit     of the measured value and of the threshold
    default  the threshold, as long as nobody sets another
    least    smallest threshold that makes sense
    measures what the value is
    why      why it matters, for people who look at the episode
    below    whether a value below the threshold is suspicious, not one above it
    """

    name: FlagName
    unit: str
    default: float
    least: float = 0.0
    measures: str
    why: str
    below: bool = False

    def excess(self, value: float, threshold: float) -> float:
        """How many times a value is beyond its threshold; at most 1 where it is not suspicious."""
        far, near = (threshold, value) if self.below else (value, threshold)
        if far <= near:
            return 1.0 if near else 0.0
        return far / near if near > 0 else float("inf")


_ALL = (
    Kind(
        name="dropped_frames",
        unit="%",
        default=2.0,
        measures="frames that are missing of those that there should be",
        why="A policy learns from frames at a steady rate. Where some are missing, the robot seems to move "
        "faster than it did.",
    ),
    Kind(
        name="rate_off",
        unit="%",
        default=5.0,
        measures="difference between the measured and the declared rate",
        why="A dataset says at which rate it is to be played. If the loop was slower or faster, the policy "
        "learns a wrong speed.",
    ),
    Kind(
        name="stall",
        unit="s",
        default=0.3,
        measures="longest time without a frame, beyond the declared period",
        why="The loop stood still while the robot may have moved on, so one step of the dataset holds a long "
        "way.",
    ),
    Kind(
        name="old_observation",
        unit="ms",
        default=200.0,
        measures="greatest age of an observation when its action was sent",
        why="The action answers something that the robot saw long before, so what the policy learns to react "
        "to is not what was there.",
    ),
    Kind(
        name="not_finite",
        unit="values",
        default=0.0,
        measures="values that are NaN or infinite",
        why="One such value makes the loss of a whole batch NaN. Usually a motor did not answer.",
    ),
    Kind(
        name="frozen_joint",
        unit="s",
        default=1.0,
        measures="longest time in which a joint reports one and the same value while it is sent elsewhere",
        why="The motor has lost power or its sensor hangs: the dataset shows commands without an effect.",
    ),
    Kind(
        name="saturated",
        unit="s",
        default=1.0,
        measures="longest time in which a joint stays at the end of its range while it is sent further",
        why="The joint can't follow, so action and state say different things, and the motor heats up.",
    ),
    Kind(
        name="jump",
        unit="times",
        default=4.0,
        least=1.0,
        measures="fastest step, compared with the joint's fast steps of before and those around it",
        why="A joint can't move that fast: a reading is wrong, or the connection lost some of them.",
    ),
    Kind(
        name="jerk",
        unit="times",
        default=5.0,
        least=1.0,
        measures="roughest second, compared with that of other episodes of robots of this type",
        why="The arm shook, or its controller oscillated. A policy imitates that, too.",
    ),
    Kind(
        name="idle_start",
        unit="s",
        default=3.0,
        measures="time before any joint moves",
        why="A policy that has seen much standing still at the start often never begins to move.",
    ),
    Kind(
        name="idle_end",
        unit="s",
        default=3.0,
        measures="time after all joints have stopped",
        why="It teaches to stand still, and takes room in every batch. The episode can be trimmed.",
    ),
    Kind(
        name="leader_offset",
        unit="% of the range",
        default=5.0,
        measures="distance that a joint keeps from its action on nine of ten frames where both stand still",
        why="Leader and follower are calibrated differently: the actions are not where the robot went.",
    ),
    Kind(
        name="odd_length",
        unit="deviations",
        default=4.0,
        least=1.0,
        measures="distance of the duration from the median of its task, in robust standard deviations",
        why="Too short: the task was not finished. Too long: something went wrong on the way.",
    ),
    Kind(
        name="odd_end",
        unit="deviations",
        default=6.0,
        least=1.0,
        measures="distance of a joint's last position from the median of its task, in robust standard "
        "deviations",
        why="An episode that ends elsewhere than the others was often stopped early, or did another task.",
    ),
    Kind(
        name="duplicate",
        unit="% of the range",
        default=0.2,
        measures="greatest distance from another episode, each joint and moment compared",
        why="The same recording counts twice in training, and may stand in both the training and the "
        "validation split.",
        below=True,
    ),
)
KINDS: Mapping[FlagName, Kind] = {kind.name: kind for kind in _ALL}
DEFAULTS: Mapping[FlagName, float] = {kind.name: kind.default for kind in _ALL}
