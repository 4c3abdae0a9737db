"""Observations of a robot until they become frames, with or without an action. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lerobot_robot_backend.lerobot.dataset_tap import value_names

# Part of the declared step. Observations that come sooner are those of a loop that does not wait.
_SHARE_OF_STEP = 0.5


@dataclass
class Observed:
    """One answer of the robot to `get_observation`.

    values       None: the answer was not a dictionary
    captured_us  when the observation began, us since the Unix epoch
    picture_us   camera -> when it took the picture that is in it
    acted        an action has been sent since
    added        LeRobot's dataset took a frame with it before an action was sent
    """

    values: dict[str, Any] | None
    captured_us: int
    picture_us: Mapping[str, int] = field(default_factory=dict)
    acted: bool = False
    added: bool = False

    @property
    def unanswered(self) -> bool:
        """Whether it was used for nothing."""
        return self.values is not None and not self.acted and not self.added


class Unanswered:
    """Unused observations, which become frames without an action if the robot is only being observed.

    A single one does not: a loop may observe twice before it acts. From the second in a row on, all of them
    do, unless they are closer together than the loop's step.
    """

    def __init__(self, fps: float) -> None:
        self._apart_us = int(_SHARE_OF_STEP * 1_000_000 / fps)
        self._alone: Observed | None = None
        self._watching = False
        self._last_us: int | None = None

    def passed(self, observed: Observed) -> Iterator[Observed]:
        """Observations that are frames now, in order, because the next one or the end has come."""
        if not observed.unanswered:
            self._alone, self._watching = None, False
            return
        if not self._watching and self._alone is None:
            self._alone = observed
            return
        for each in (self._alone, observed):
            if each is not None and (
                self._last_us is None or each.captured_us - self._last_us >= self._apart_us
            ):
                self._last_us = each.captured_us
                yield each
        self._alone, self._watching = None, True


def lasting(observation: Mapping[str, Any], timed: Mapping[str, int]) -> dict[str, Any]:
    """A copy of the observation, because the robot may fill its arrays again before it is written.

    timed  names of pictures that have a time: LeRobot's cameras return a new array for each,
           so no copy is needed
    """
    return {
        name: value.copy() if name not in timed and _is_array(value) else value
        for name, value in observation.items()
    }


def dataset_action(feature: Mapping[str, Any] | None, value: Any) -> dict[str, float]:
    """Name -> value of the action of a frame in LeRobot's dataset; empty if it has none.

    feature  the dataset's `action`
    """
    if feature is None or value is None:
        return {}
    import numpy as np  # already imported, because LeRobot's dataset is in use

    values = np.asarray(value).ravel().tolist()
    names = value_names(feature.get("names")) or []
    if len(names) != len(values):
        names = [f"{number}" for number in range(len(values))]
    return dict(zip(names, values, strict=True))


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and hasattr(value, "copy")
