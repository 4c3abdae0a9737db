"""Episodes of a LeRobot dataset, told as episodes of the session."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.lerobot.dataset_tap import IMAGES

Columns = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What the robot observed and did in one iteration of the loop.

    log  records it, with the columns that it is given, or a gap in its place
    """

    observation: Mapping[str, Any] | None
    action: Mapping[str, Any] | None
    log: Callable[[Columns | None], None]


@dataclass(frozen=True)
class Added:
    """A frame that LeRobot's dataset has taken.

    columns  what it holds beyond joints and pictures
    log      logs it with these columns, though no action was sent for it: beside the latest observation, the
             action being the dataset's
    """

    frame: Mapping[str, Any]
    columns: Columns
    task: str | None
    log: Callable[[Columns | None], None]


class EpisodeTracker:
    """Follows what LeRobot does with its dataset; the steps of the loop are logged by it.

    A frame belongs to the episode if LeRobot added it to the dataset. Those in between, while an episode is
    open, are told as a pause of it; those of the phase in which the scene is reset belong to none. All are
    recorded. Numbers are the session's own: an episode that is recorded again is told as discarded, and gets
    a new number.

    A loop may act first and add the frame then, as LeRobot's commands do, or the other way around. So a step
    is kept back until the next one, and a frame that is added while an observation waits for its action
    waits for it, too. If none is ever sent (an arm is led by hand), the frame is what the dataset has.

    not_placed  frames that the dataset took, and nobody knows which steps they are
    """

    def __init__(
        self, client: TelemetryClient, state_names: Sequence[str], action_names: Sequence[str]
    ) -> None:
        """state_names and action_names as the session has them."""
        self.not_placed = 0
        self._client = client
        self._names = state_names, action_names
        self._held: Step | None = None
        self._last: Step | None = None
        self._waiting: Added | None = None
        self._adds_first: bool | None = None
        self._end_frame: int | None = None
        self._task: str | None = None

    def step(self, step: Step, *, hold: bool) -> None:
        """The robot has acted.

        hold  LeRobot may still add the frame to its dataset
        """
        try:
            self.let_go()
        finally:
            self._last = step
            if self._waiting is not None:
                added, self._waiting = self._waiting, None
                self._take(step.log, added)
            elif hold:
                self._held = step
            else:
                step.log(None)

    def add_frame(self, added: Added, observation: Mapping[str, Any] | None) -> bool:
        """LeRobot has added a frame; returns whether it is that of `observation`, ahead of its action.

        observation  the latest one, if no action has been sent and no frame been added since; else None
        """
        if observation is not None and self._is_ahead(added, observation):
            try:
                self.without_action()
            finally:
                self._waiting = added
            return True
        if self._held is not None:
            held, self._held = self._held, None
            self._take(held.log, added)
        elif self._client.logged or self._waiting is not None:
            self.not_placed += 1
        return False

    def without_action(self) -> None:
        """Log what was kept back: no action will follow any more."""
        try:
            self.let_go()
        finally:
            self._give_up_waiting()

    def let_go(self) -> None:
        """Log the step that was kept back, if there is one: LeRobot did not add it."""
        held, self._held = self._held, None
        if held is not None:
            held.log(None)

    def save(self) -> None:
        """LeRobot has saved the episode."""
        self._give_up_waiting()
        self._finish(discarded=None)

    def discard(self, why: str) -> None:
        """LeRobot has thrown the episode away."""
        self._give_up_waiting()
        self._finish(discarded=why)

    def _is_ahead(self, added: Added, observation: Mapping[str, Any]) -> bool:
        """Whether the frame is that of an observation whose action is still to be sent.

        Else it is that of the step before it: environments observe once more before a frame is added. Where
        nothing tells the two apart, it is as it was the last time.
        """
        if self._last is None:
            return True
        told = _whose(added.frame, self._last.observation, observation, self._names[0])
        if told is None and self._held is None:
            return True  # there is no step before it that it could be of
        if told is None and self._adds_first is None:
            action = added.frame.get("action")
            # Actions of another form (a gripper's way, not the joints') tell nothing; to act first is usual.
            alike = action is not None and len(action) == len(self._names[1])
            told = alike and not _holds(action, self._last.action, self._names[1])
        if told is not None:
            self._adds_first = told
        return bool(self._adds_first)

    def _give_up_waiting(self) -> None:
        if self._waiting is not None:
            added, self._waiting = self._waiting, None
            self._take(added.log, added)

    def _take(self, log: Callable[[Columns | None], None], added: Added) -> None:
        try:
            log(added.columns)
        finally:
            self._belongs(added.task)

    def _belongs(self, task: str | None) -> None:
        """The frame that was logged last belongs to the episode."""
        frame = self._client.logged - 1
        if self._end_frame is None:
            self._client.start_episode(task, first_frame=frame)
        else:
            if frame > self._end_frame:
                self._client.pause_episode(self._end_frame, frame)
            if task is not None and task != self._task:
                self._client.change_task(task, first_frame=frame)
        self._end_frame, self._task = frame + 1, task

    def _finish(self, *, discarded: str | None) -> None:
        if self._end_frame is None:
            return
        end_frame, self._end_frame = self._end_frame, None
        self._client.end_episode("discarded" if discarded else None, note=discarded, end_frame=end_frame)


def _whose(
    frame: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    names: Sequence[str],
) -> bool | None:
    """Whether a frame is of the observation `now`, not of that `before`; None: it may be of either.

    A picture in it is the very array that was observed, unless the robot gives the same one each time.
    """
    before = before or {}
    for name, value in frame.items():
        camera = name.removeprefix(IMAGES)
        if camera != name and (before.get(camera) is value) != (now.get(camera) is value):
            return now.get(camera) is value
    state = frame.get("observation.state")
    ours, theirs = _holds(state, now, names), _holds(state, before, names)
    return ours if ours != theirs else None


def _holds(feature: Any, values: Mapping[str, Any] | None, names: Sequence[str]) -> bool:
    """Whether a feature's value has all of the values by these names in it, as float32."""
    if feature is None or values is None or not names or any(values.get(name) is None for name in names):
        return False
    import numpy as np  # LeRobot's dataset is in use, so it is there already

    wanted = np.array([values[name] for name in names], np.float32)
    return bool(np.isin(wanted, np.asarray(feature, np.float32)).all())
