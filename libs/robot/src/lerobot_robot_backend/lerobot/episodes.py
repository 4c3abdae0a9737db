"""Turns the episodes of a LeRobot dataset into episodes of the session."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.lerobot.dataset_tap import IMAGES

Columns = dict[str, Any]
# A pause that lasts longer is told when it does, even if the episode had longer ones.
USUAL_S = 0.5


@dataclass(frozen=True)
class Step:
    """What the robot observed and did in one iteration of the loop.

    log  records the step with the given columns, or a gap in its place
    """

    observation: Mapping[str, Any] | None
    action: Mapping[str, Any] | None
    log: Callable[[Columns | None], None]


@dataclass(frozen=True)
class Added:
    """A frame that LeRobot's dataset has taken.

    columns  its values beyond joints and pictures
    log      logs it with these columns although no action was sent: with the latest observation, and the
             action that the dataset has
    """

    frame: Mapping[str, Any]
    columns: Columns
    task: str | None
    log: Callable[[Columns | None], None]


class EpisodeTracker:
    """Follows what LeRobot does with its dataset, and logs the steps of the loop.

    A frame belongs to the episode if LeRobot added it to the dataset. Frames in between, while the episode is
    open, become a pause of it. Frames from the reset of the scene belong to no episode. LeRobot saves the
    episode only after that reset: so that nobody takes the reset for part of the episode if the process is
    killed then, a pause is told when it begins, and again, with its end, if LeRobot goes on adding.

    All are recorded. The session has its own episode numbers: if an episode is recorded again, the first
    attempt is marked as discarded, and the second gets a new number.

    A loop may act first and then add the frame, as LeRobot's commands do, or the other way around. Therefore
    a step is held back until the next one, and a frame that is added while an observation waits for its
    action waits too. If no action is ever sent (an arm is led by hand), the frame has the dataset's action.

    not_placed  frames that the dataset took but that can't be matched with a step
    """

    def __init__(
        self, client: TelemetryClient, state_names: Sequence[str], action_names: Sequence[str], fps: float
    ) -> None:
        """Set the session's state_names, action_names, and the rate of its loop in Hz."""
        self.not_placed = 0
        self._client = client
        self._names = state_names, action_names
        self._held: Step | None = None
        self._last: Step | None = None
        self._waiting: Added | None = None
        self._adds_first: bool | None = None
        self._end_frame: int | None = None
        self._task: str | None = None
        self._longest_usual = fps * USUAL_S
        self._usual = 0.0
        self._pause_told = False

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
                self.pass_over(step.log)

    def add_frame(self, added: Added, observation: Mapping[str, Any] | None) -> bool:
        """LeRobot has added a frame; returns whether it belongs to `observation`, before its action.

        observation  the latest one if no action was sent and no frame was added since, otherwise None
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
        """Log the step that was held back: no action will follow any more."""
        try:
            self.let_go()
        finally:
            self._give_up_waiting()

    def let_go(self) -> None:
        """Log the step that was held back, if there is one: LeRobot did not add it."""
        held, self._held = self._held, None
        if held is not None:
            self.pass_over(held.log)

    def pass_over(self, log: Callable[[Columns | None], None]) -> None:
        """Log a frame that LeRobot did not add, after telling that the episode pauses with it."""
        try:
            self._tell_pause()
        finally:
            log(None)

    def save(self) -> None:
        """LeRobot has saved the episode."""
        self._give_up_waiting()
        self._finish(discarded=None)

    def discard(self, why: str) -> None:
        """LeRobot has thrown the episode away."""
        self._give_up_waiting()
        self._finish(discarded=why)

    def _is_ahead(self, added: Added, observation: Mapping[str, Any]) -> bool:
        """Whether the frame belongs to an observation whose action has not been sent yet.

        Otherwise it belongs to the step before: environments observe once more before they add a frame. If
        nothing distinguishes the two, the answer is the same as the last time.
        """
        if self._last is None:
            return True
        told = _whose(added.frame, self._last.observation, observation, self._names[0])
        if told is None and self._held is None:
            return True  # there is no step before it to which it could belong
        if told is None and self._adds_first is None:
            action = added.frame.get("action")
            # Actions of another form (a gripper's path, not the joints) show nothing; acting first is usual.
            alike = action is not None and len(action) == len(self._names[1])
            told = alike and not _holds(action, self._last.action, self._names[1])
        # Which of the two a loop does never changes, so what was seen once decides where nothing tells them
        # apart.
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
            self._usual = 0.0
        else:
            if frame > self._end_frame:
                self._client.pause_episode(self._end_frame, frame)
                self._usual = min(max(self._usual, frame - self._end_frame), self._longest_usual)
            if task is not None and task != self._task:
                self._client.change_task(task, first_frame=frame)
        self._end_frame, self._task, self._pause_told = frame + 1, task, False

    def _tell_pause(self) -> None:
        """Tell that the next frame lies in a pause, once, unless the episode had as long ones before.

        A loop that adds every other frame would otherwise tell twice as much.
        """
        if self._end_frame is None or self._pause_told:
            return
        if self._client.logged + 1 - self._end_frame > self._usual:
            self._client.pause_episode(self._end_frame)
            self._pause_told = True

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
    """Whether a frame belongs to the observation `now` and not to `before`; None if it may be either.

    Its picture is the same array object as in the observation, unless the robot returns the same one each
    time.
    """
    before = before or {}
    for name, value in frame.items():
        camera = name.removeprefix(IMAGES)
        # Cheap and certain, where comparing joints at rest tells nothing.
        if camera != name and (before.get(camera) is value) != (now.get(camera) is value):
            return now.get(camera) is value
    state = frame.get("observation.state")
    ours, theirs = _holds(state, now, names), _holds(state, before, names)
    return ours if ours != theirs else None


def _holds(feature: Any, values: Mapping[str, Any] | None, names: Sequence[str]) -> bool:
    """Whether a feature's value contains the values of all these names, as float32."""
    if feature is None or values is None or not names or any(values.get(name) is None for name in names):
        return False
    import numpy as np  # already imported, because LeRobot's dataset is in use

    wanted = np.array([values[name] for name in names], np.float32)
    return bool(np.isin(wanted, np.asarray(feature, np.float32)).all())
