"""Intercepts LeRobot's dataset: the frames it takes, their values beyond joints, its episodes."""

import functools
import sys
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from teleop_schema.columns import TEXT, VALUE_BYTES

DATASET_MODULE = "lerobot.datasets.lerobot_dataset"
# Features that every dataset has, and features that the session has as its vectors.
KNOWN = frozenset(
    {"timestamp", "frame_index", "episode_index", "index", "task_index", "action", "observation.state"}
)

IMAGES = "observation.images."
COLUMN_TYPES = frozenset({*VALUE_BYTES, TEXT})

# A note of an episode; an error's text may contain a whole array, and LeRobot shows all of it.
_LONGEST_WHY = 500

# Calls a function, and keeps its errors away from LeRobot.
type Guard = Callable[..., None]


class DatasetTap:
    """Wraps LeRobot's dataset class, and follows one dataset: the first that gets a frame while a session is
    recorded. Once that dataset is finalized or discarded, the next one that gets a frame takes its place.

    tapped        whether the class is in use, and wrapped
    not_followed  for each other dataset that got frames meanwhile: what to say about it
    """

    def __init__(
        self,
        *,
        guard: Guard,
        add: Callable[[dict[str, Any], dict[str, Any], str | None], None],
        tell: Callable[..., None],
    ) -> None:
        """Set the functions to call, through `guard`.

        add   features of the dataset, the frame that it has taken, the task of the frame
        tell  "save", or "discard" and why
        """
        self.tapped = False
        self.not_followed: list[str] = []
        self._followed: weakref.ref[Any] | None = None
        self._name = ""
        self._guard = guard
        self._add = add
        self._tell = tell

    def install(self) -> None:
        """Wrap the class if the command has imported it; this method never imports it itself."""
        module = sys.modules.get(DATASET_MODULE)
        if module is None or self.tapped:
            return
        self.tapped = True
        dataset = module.LeRobotDataset
        dataset.add_frame = self._wrap_add_frame(dataset.add_frame)
        dataset.save_episode = self._wrap_save_episode(dataset.save_episode)
        dataset.clear_episode_buffer = self._wrap_clear(dataset.clear_episode_buffer)
        dataset.finalize = self._wrap_finalize(dataset.finalize)

    def follow_next(self) -> None:
        """Follow the dataset that gets the next frame: a new recording has begun."""
        self._followed = None

    def _follows(self, dataset: Any) -> bool:
        return self._followed is not None and self._followed() is dataset

    def _added(self, dataset: Any, frame: dict[str, Any], task: str | None) -> None:
        followed = None if self._followed is None else self._followed()
        if followed is None:
            if self._followed is not None:
                self._tell("discard", "its dataset was discarded before the episode was saved")
            self._followed, self._name = weakref.ref(dataset), _name(dataset)
        elif followed is not dataset:
            told = (
                f"dataset {_name(dataset)}: the session follows the episodes of {self._name}, "
                "which took a frame first"
            )
            if told not in self.not_followed:
                self.not_followed.append(told)
            return
        self._add(dataset.features, frame, task)

    def _wrap_add_frame(self, add_frame: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(add_frame)
        def add_frame_and_tell(dataset: Any, frame: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            task = frame.get("task")  # taken out of the frame by LeRobot
            result = add_frame(dataset, frame, *args, **kwargs)
            self._guard(self._added, dataset, frame, task)
            return result

        return add_frame_and_tell

    def _wrap_save_episode(self, save_episode: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save_episode)
        def save_and_tell(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                result = save_episode(dataset, *args, **kwargs)
            except BaseException as error:
                if self._follows(dataset):
                    why = f"saving failed: {type(error).__name__}: {error}"[:_LONGEST_WHY]
                    self._guard(self._tell, "discard", why)
                raise
            if self._follows(dataset):
                self._guard(self._tell, "save")
            return result

        return save_and_tell

    def _wrap_clear(self, clear: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(clear)
        def tell_and_clear(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            # LeRobot clears its buffer before the attempt is repeated; saving empties it in another way.
            if self._follows(dataset):
                self._guard(self._tell, "discard", "recorded again")
            return clear(dataset, *args, **kwargs)

        return tell_and_clear

    def _wrap_finalize(self, finalize: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(finalize)
        def tell_and_finalize(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            if self._follows(dataset):
                self._guard(self._tell, "discard", "the recording ended before the episode was saved")
                self._followed = None
            return finalize(dataset, *args, **kwargs)

        return tell_and_finalize


def _name(dataset: Any) -> str:
    return f"{dataset.repo_id} ({dataset.root})"


def columns_of(features: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, tuple[int, ...], Any]]:
    """Name -> dtype, shape and names of a dataset's numbers and texts that a session has no vector for."""
    return {
        name: (feature["dtype"], tuple(feature["shape"]), feature.get("names"))
        for name, feature in features.items()
        if name not in KNOWN and feature["dtype"] in COLUMN_TYPES
    }


def not_kept(
    features: Mapping[str, Mapping[str, Any]], vectors: Mapping[str, Sequence[str]], cameras: Collection[str]
) -> dict[str, str]:
    """Name -> reason, for features of a dataset that the session lacks, or has in another form.

    vectors  feature -> names of the values that the session has for it, which are the robot's own
    cameras  that the robot has
    """
    found = {}
    for name, feature in features.items():
        dtype = feature["dtype"]
        if name in vectors:
            given, ours = value_names(feature.get("names")), list(vectors[name])
            shape = tuple(feature["shape"])
            if given not in (None, ours) or (given is None and shape != (len(ours),)):
                had = f"shape {shape}" if given is None else _listed(given)
                found[name] = f"the command's dataset had {had}, but {_listed(ours)} were kept"
        elif dtype in ("image", "video"):
            if name.removeprefix(IMAGES) not in cameras:
                found[name] = "a picture made by the command, not by the robot"
        elif name not in KNOWN and dtype not in COLUMN_TYPES:
            found[name] = f"its dtype is {dtype}; only numbers, booleans and text are kept"
    return found


def value_names(names: Any) -> list[str] | None:
    """Names of a vector's values; in LeRobot they are a list, or a mapping that contains the list."""
    if isinstance(names, Mapping):
        return [each for values in names.values() for each in values]
    return None if names is None else list(names)


def _listed(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"
