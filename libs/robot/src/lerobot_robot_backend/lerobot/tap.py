"""Intercepts a LeRobot command: its robot's observations and actions, and its dataset's episodes.

Nothing here raises into LeRobot, waits, or uses the network: errors are counted, and each is logged once.
The first robot that the command creates is recorded. The arms of a bimanual robot are not recorded a second
time, and a second robot is named at the end as not recorded.
"""

import functools
import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from teleop_schema.words import counted

from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.lerobot.cameras import describe_cameras, find_camera, picture_time
from lerobot_robot_backend.lerobot.dataset_tap import DatasetTap, columns_of, not_kept
from lerobot_robot_backend.lerobot.episodes import Added, Columns, EpisodeTracker, Step
from lerobot_robot_backend.lerobot.observed import Observed, Unanswered, dataset_action, lasting
from lerobot_robot_backend.lerobot.options import Request, options_or_exit
from lerobot_robot_backend.lerobot.robot_tap import after, tap_robot
from lerobot_robot_backend.lerobot.robots import RobotWatch, script_rate, vector_names

# How long the end of the command waits, to be able to say that everything has arrived.
FINISH_S = 2.0
# How long `connect` waits for the encoder to start.
START_S = 3.0
# An error's text may contain a whole array; the log has all of it.
_LONGEST_NOTE = 1000
# The extra of a frame for which no action was sent.
NOT_SENT = {"sent_action": None}

log = logging.getLogger("lerobot_robot_backend")


class Tap:
    """One command's recording: at most one session at a time, from `connect` to `disconnect` of its robot."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pid = os.getpid()
        self._robot: Any = None
        self._command: Any = None
        self._others: list[str] = []
        self._why_not = "the command made no robot"
        self._client: TelemetryClient | None = None
        self._episodes: EpisodeTracker | None = None
        self._observed: Observed | None = None
        self._unanswered: Unanswered | None = None
        self._cameras: dict[str, Any] = {}
        self._told: set[str] = set()
        self._lost = 0
        self._not_placed = 0
        self._dataset = DatasetTap(guard=self._guarded, add=self._dataset_added, tell=self._tell)
        self._features: Any = None
        self._not_kept: dict[str, str] = {}

    def install(self) -> None:
        """Wait for the robot, and wrap LeRobot's dataset if it is in use."""
        RobotWatch(before=self._check_request, found=self._robot_found).install()
        self._dataset.install()

    def finish(self) -> None:
        """At the end of the process: close the session, and say what is safe where, or why nothing is."""
        if os.getpid() != self._pid:
            return
        self._guarded(self._close)
        with suppress(OSError):  # the terminal was closed
            for line in self._last_lines():
                print(f"backend: {line}", file=sys.stderr)

    def _last_lines(self) -> list[str]:
        if self._client is not None:
            with suppress(TimeoutError, KeyboardInterrupt):
                self._client.drain(FINISH_S)
            lines = self._client.summary().splitlines()
            lines += [f"{self._lost} could not be recorded, see the log"] if self._lost else []
            lines += [f"{name}: {counts}" for name, counts in self._client.pictures(FINISH_S).items()]
            left_out = self._client.cameras_not_recorded
            lines += [f"not recorded: camera {name}: {why}" for name, why in left_out.items()]
            unlike = self._not_kept.items()
            lines += [f"not recorded: {name} of the command's dataset: {why}" for name, why in unlike]
            lines += [f"not followed: {why}" for why in self._dataset.not_followed]
            if self._not_placed:
                frames = counted(self._not_placed, "frame")
                lines.append(
                    f"added to the dataset beyond what was observed and sent: {frames}; an episode has such "
                    "a frame only if its action was the one before"
                )
        elif self._robot is not None or self._request.by_flag:
            lines = [f"nothing was recorded: {self._why_not}"]
        else:  # the environment names a backend for all commands, and this one has nothing to record
            lines = []
        return lines + [
            f"not recorded: {other}: one process records only one robot" for other in self._others
        ]

    def _check_request(self) -> None:
        if os.getpid() == self._pid:
            options_or_exit(self._request)

    def _robot_found(self, robot: Any, command: Any) -> None:
        if os.getpid() != self._pid:
            return
        if self._robot is None:
            self._robot, self._command = robot, command
            self._why_not = "its robot was not connected"
            self._guarded(self._tap_robot, robot)
        else:
            self._guarded(after, robot, "connect", functools.partial(self._note_other, robot))

    def _tap_robot(self, robot: Any) -> None:
        try:
            tap_robot(
                robot,
                guard=self._guarded,
                connected=self._open_or_say_why,
                observing=self._observing,
                acted=self._log,
                disconnected=self._close,
            )
        except Exception as error:
            self._why_not = f"{type(robot).__name__} can't be listened to: {type(error).__name__}: {error}"
            raise

    def _note_other(self, robot: Any) -> None:
        name = f"{type(robot).__name__} {getattr(robot, 'id', None) or ''}".strip()
        if name not in self._others:
            self._others.append(name)
            log.warning("backend: %s is not recorded: one process records only one robot", name)

    def _open_or_say_why(self) -> None:
        try:
            self._open()
        except Exception as error:
            self._why_not = f"{type(error).__name__}: {error}"
            raise

    def _open(self) -> None:
        self._guarded(self._close)
        robot, options = self._robot, self._request.options
        fps = options.fps or self._command_rate()
        if not fps:
            self._why_not = (
                "its rate (fps) is unknown; set --backend_fps to the rate of its loop, for "
                "example --backend_fps=30"
            )
            log.warning("backend: %s: not recorded", self._why_not)
            return
        names, action_names = vector_names(robot)
        cameras = {name: find_camera(robot, name) for name in robot.observation_features}
        self._cameras = {
            name: camera for name, camera in cameras.items() if hasattr(camera, "latest_timestamp")
        }
        self._client = client = TelemetryClient(
            options.backend_url,
            options.robot_id,
            state_names=names,
            action_names=action_names,
            fps=fps,
            robot_type=robot.name,
            task=options.task
            or _find(self._command, "dataset", "single_task")
            or _find(self._command, "task"),
            operator=options.operator,
            cameras=describe_cameras(robot),
            host={
                "command": Path(sys.argv[0]).name,
                "lerobot": importlib.metadata.version("lerobot"),
                "robot.id": robot.id,
            },
            token=options.token,
        )
        # The loop has not begun yet, so waiting is allowed. Later nothing may wait for pictures.
        client.wait_for_encoder(START_S)
        self._episodes = EpisodeTracker(client, names, action_names, fps)
        self._unanswered = Unanswered(fps)
        self._features, self._not_kept = None, {}
        self._dataset.follow_next()
        self._dataset.install()
        log.info(
            "backend: recording %s for %s in %s", options.robot_id, options.backend_url, client.stream_dir
        )

    def _command_rate(self) -> float | None:
        if self._command is None:
            return script_rate()
        fps = _find(self._command, "fps") or _find(self._command, "dataset", "fps")
        return float(fps) if fps else None

    def _observing(self) -> Callable[[Any], None]:
        # Robots read their joints first and then the latest pictures, so this is the time of the joints.
        captured_ns = time.monotonic_ns()
        before = {name: camera.latest_timestamp for name, camera in self._cameras.items()}
        return functools.partial(self._observe, captured_ns, before)

    def _observe(self, captured_ns: int, before: dict[str, Any], observation: Any) -> None:
        """Keep the robot's observation, with the time at which each camera took its picture."""
        client = self._client
        if client is None:
            return
        self._pass_on()
        values = dict(observation) if isinstance(observation, dict) else None
        moments = {} if values is None else self._picture_times(values, before)
        times = {name: client.clock.at_performance_us(moment) for name, moment in moments.items()}
        self._observed = Observed(values, client.clock.at_us(captured_ns), times)

    def _picture_times(self, values: dict[str, Any], before: dict[str, Any]) -> dict[str, float]:
        """When the cameras that tell it took the pictures of an observation, by `time.perf_counter`."""
        moments = {
            name: picture_time(camera, values.get(name), before.get(name))
            for name, camera in self._cameras.items()
        }
        return {name: moment for name, moment in moments.items() if moment is not None}

    def _pass_on(self) -> None:
        """A new observation replaces the latest one: log that one if it was not used."""
        client, episodes, observed, self._observed = self._client, self._episodes, self._observed, None
        if client is None or episodes is None or observed is None or self._unanswered is None:
            return
        for each in self._unanswered.passed(observed):
            episodes.without_action()
            log_it = self._logging(client, each, {}, hold=False, extra=NOT_SENT)
            self._guarded(episodes.pass_over, log_it)

    def _log(self, action: dict[str, Any] | None, sent: Any) -> None:
        client, episodes = self._client, self._episodes
        if client is None or episodes is None:
            return
        hold = self._dataset.tapped and self._records_dataset()
        observed = self._observed
        log_it: Callable[[Columns | None], None]
        if observed is None or observed.values is None:
            log_it = functools.partial(self._lose, client, "the robot gave no observation")
        else:
            log_it = self._logging(client, observed, action or {}, hold=hold, sent_action=sent)
            observed.acted = True
        # LeRobot adds a frame to its dataset, with the command's own columns, after it has acted.
        episodes.step(Step(None if observed is None else observed.values, action, log_it), hold=hold)
        if action is None:
            self._say("the action is not a dictionary of names and values, so the frames have none")

    def _logging(
        self,
        client: TelemetryClient,
        observed: Observed,
        action: dict[str, Any],
        *,
        hold: bool,
        sent_action: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Callable[[Columns | None], None]:
        """A function that logs a frame with this observation and columns; it is called later if `hold`."""
        captured_us, age_us = observed.captured_us, 0
        if observed.acted:
            # Its time is that of the action: two frames with the time of
            # one observation could not be distinguished.
            captured_us = client.clock.now_us()
            age_us = max(captured_us - observed.captured_us, 1)
        values = observed.values or {}
        return functools.partial(
            self._append,
            client,
            lasting(values, observed.picture_us) if hold else values,
            action,
            sent_action=sent_action if isinstance(sent_action, dict) else None,
            extra=extra,
            captured_us=captured_us,
            observation_age_us=age_us,
            picture_us=observed.picture_us,
        )

    def _records_dataset(self) -> bool:
        # Settings without a dataset do not mean that there is none: those of an environment do not name it.
        return getattr(self._command, "dataset", True) is not None

    def _lose(self, client: TelemetryClient, why: str, columns: Columns | None) -> None:
        """A gap in the place of a frame that can't be recorded."""
        self._lost += 1
        client.lose(why)
        self._say(why)

    def _append(
        self, client: TelemetryClient, observation: Any, action: Any, columns: Columns | None, **more: Any
    ) -> None:
        before = client.logged
        try:
            client.log(observation, action, columns=columns, **more)
        except Exception as error:
            self._lost += 1
            why = f"{type(error).__name__}: {error}"
            if client.logged == before:
                client.lose(why)
            self._say(why)

    def _dataset_added(self, features: dict[str, Any], frame: dict[str, Any], task: str | None) -> None:
        """LeRobot has added a frame to the dataset that is followed."""
        client, episodes = self._client, self._episodes
        if client is None or episodes is None:
            return
        if features is not self._features:
            self._guarded(self._note_features, client, features)
        columns = {name: frame[name] for name in columns_of(features) if name in frame}
        observed = self._observed
        if observed is None or not observed.unanswered:
            observed = Observed(None, 0)
        action = dataset_action(features.get("action"), frame.get("action"))
        log_it = self._logging(client, observed, action, hold=True, extra=NOT_SENT)
        observed.added = episodes.add_frame(Added(frame, columns, task, log_it), observed.values)

    def _note_features(self, client: TelemetryClient, features: dict[str, Any]) -> None:
        """Declare once each feature of the command's dataset that becomes a column, or report it as not
        kept."""
        names, action_names = vector_names(self._robot)
        vectors = {"observation.state": names, "action": action_names}
        unlike = not_kept(features, vectors, describe_cameras(self._robot))
        for name, (dtype, shape, value_names) in columns_of(features).items():
            try:
                client.declare_column(name, dtype, shape, value_names)
            except ValueError as error:
                unlike[name] = str(error).removeprefix(f"{name} is not recorded: ")
        for name, why in unlike.items():
            if name not in self._not_kept:
                client.tell_not_recorded(name, why[:_LONGEST_NOTE])
                self._not_kept[name] = why
        self._features = features

    def _close(self) -> None:
        if self._episodes is not None:
            self._guarded(self._pass_on)
            self._guarded(self._episodes.let_go)
            self._guarded(self._episodes.discard, "the recording ended before the episode was saved")
            self._not_placed += self._episodes.not_placed
            self._episodes = None
        self._observed = None
        if self._client is not None:
            self._client.close()

    def _tell(self, what: str, *about: Any) -> None:
        if self._episodes is not None:
            getattr(self._episodes, what)(*about)

    def _guarded(self, do: Callable[..., None], *args: Any) -> None:
        """Call `do`, and keep its errors away from LeRobot."""
        try:
            do(*args)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        """Log an error, each one once."""
        if text not in self._told:
            self._told.add(text)
            log.warning("backend: %s; LeRobot continues (logged once)", text)


def _find(holder: Any, *path: str) -> Any:
    for name in path:
        holder = getattr(holder, name, None)
    return holder
