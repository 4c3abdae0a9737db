"""The rate of a dataset, so that it plays as fast as what was recorded. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from teleop_dataset.v3.info import VideoFeature

from teleop_export.errors import BadFps, RatesDiffer, SessionsDiffer
from teleop_export.sessions.recorded import Session
from teleop_export.timing.pace import SLOWER, Pace

# A hint names no more episodes than a person reads.
MOST_NAMED = 5
# LeRobot's DatasetInfo has an int for its fps, so nothing below 1 Hz can be a dataset.
WITHOUT_RATE = 'set `"format": "parquet"` or `"format": "mcap"`, which have no rate'


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode that goes into the dataset, `index` None for all of a session without any."""

    session: Session
    index: int | None
    pace: Pace

    @property
    def name(self) -> str:
        """What errors and reports call it."""
        told = f"session {self.session.id}"
        return told if self.index is None else f"episode {self.index} of {told}"

    @property
    def hz(self) -> float | None:
        """How fast its loop ran, samples per second; None if that is told by too few of them."""
        return self.pace.hz

    @property
    def reached(self) -> int:
        """The highest rate of rows that its samples are enough for, or nearly: the nearest whole number if
        that plays it hardly too fast."""
        fewer = self.pace.reached
        nearest = round(self.hz or 0.0) == fewer + 1 and not self.slow_for(fewer + 1)
        return fewer + 1 if nearest else fewer

    def slow_for(self, fps: float) -> bool:
        """Whether its rows at `fps` would be over well before it was."""
        return self.pace.slow_for(fps)

    @property
    def told_hz(self) -> str:
        """At what rate it was recorded, in words."""
        slow = 0 < self.pace.reached < int(self.hz or 0.0) * (1 - SLOWER)
        return f"{self.hz:.2f} Hz, parts of it at {self.pace.reached} Hz" if slow else f"{self.hz:.2f} Hz"


def choose_fps(
    episodes: Sequence[RecordedEpisode], cameras: Sequence[VideoFeature], wanted: int | None
) -> int:
    """The dataset's rate.

    wanted  as asked for; None: the declared rate of all loops (`whole_rate`), or that of the fastest camera
            if it is lower; if every episode was really slower than that, and about as slow, the rate that it
            was measured at, all through
    raises  BadFps, SessionsDiffer, RatesDiffer
    """
    if wanted is not None:
        _check_wanted(episodes, wanted)
        return wanted
    _check_declared(episodes)
    rate = _declared_rate(episodes[0].session, [each.session for each in episodes], cameras)
    slow = [each for each in episodes if each.slow_for(rate)]
    if not slow:
        return rate
    slowest = min(slow, key=lambda each: each.pace.reached)
    fps = min(each.reached for each in slow)
    if not fps:
        raise BadFps(
            f"{slowest.name} was recorded at {slowest.told_hz} instead of {rate}; LeRobot datasets need a "
            "whole number, 1 or more",
            field="fps",
            hint=f"leave out {_left_out([each for each in slow if not each.reached])}; or {WITHOUT_RATE}",
        )
    others = [each for each in episodes if each.pace.reached > fps / (1 - SLOWER) + 1]
    if others:
        raise RatesDiffer(
            f"a dataset has one rate, but {slowest.name} was recorded at {slowest.told_hz} instead of "
            f"{rate}, {others[0].name} at {others[0].told_hz}",
            field="fps",
            hint=f'set `"fps": {fps}`, or leave out {_left_out(_slower(episodes, slow, others))}',
        )
    return fps


def _slower(
    episodes: Sequence[RecordedEpisode], slow: Sequence[RecordedEpisode], others: Sequence[RecordedEpisode]
) -> Sequence[RecordedEpisode]:
    """Those without which the rest have one rate, or are nearer to it: all that are slow, if any is not."""
    return slow if len(slow) < len(episodes) else [each for each in episodes if each not in others]


def _left_out(slower: Sequence[RecordedEpisode]) -> str:
    """Which they are, and how to leave them out."""
    names = [each.name for each in slower[:MOST_NAMED]]
    more = f" and {len(slower) - MOST_NAMED} more" if len(slower) > MOST_NAMED else ""
    episode = next((each for each in slower if each.index is not None), None)
    how = ""
    if episode is not None:
        how = f' (PATCH /sessions/{episode.session.id}/episodes/{episode.index} {{"outcome": "discarded"}})'
    return f"{', '.join(names)}{more}{how}"


def _check_wanted(episodes: Sequence[RecordedEpisode], wanted: int) -> None:
    """Rows can't be invented: no more of them per second than there are samples."""
    slowest = min(episodes, key=_highest)
    limit = _highest(slowest)
    if wanted > limit:
        told = f"{slowest.session.fps:.4g} Hz" if slowest.hz is None else slowest.told_hz
        raise BadFps(
            (
                f"fps {wanted} is above the {told} at which {slowest.name} was recorded: an export can't add "
                "rows that were not recorded"
            ),
            field="fps",
            limit=limit,
            hint=f'set `"fps": {limit}`, or leave out {_left_out([slowest])}' if limit else WITHOUT_RATE,
        )


def _highest(episode: RecordedEpisode) -> int:
    """The highest rate that may be asked for."""
    declared = whole_rate(episode.session.fps)
    if episode.hz is None or not declared:
        return declared
    reached = episode.reached
    return reached if episode.slow_for(declared) else max(declared, reached)


def _check_declared(episodes: Sequence[RecordedEpisode]) -> None:
    first = episodes[0]
    for other in episodes[1:]:
        if other.session.fps != first.session.fps:
            lowest = min(map(_highest, episodes))
            raise SessionsDiffer(
                f"sessions {first.session.id} and {other.session.id} differ in fps: {first.session.fps:g} "
                f"and {other.session.fps:g}, but a dataset has one rate",
                field="fps",
                hint=f'set a rate that none of them is below: `"fps": {lowest}`'
                if lowest
                else "leave out what is below 1 Hz: LeRobot datasets can't have it",
            )


def _declared_rate(first: Session, sessions: Sequence[Session], cameras: Sequence[VideoFeature]) -> int:
    loop = first.fps
    pictures = max(
        (round(session.footage[camera.name].fps) for camera in cameras for session in sessions), default=0
    )
    if 0 < pictures < loop:
        return pictures
    rate = whole_rate(loop)
    if not rate:
        raise BadFps(
            f"session {first.id} has fps {loop:g}; LeRobot datasets need a whole number, 1 or more",
            field="fps",
            hint=WITHOUT_RATE,
        )
    return rate


def whole_rate(hz: float) -> int:
    """The dataset's rate for a loop of `hz`, for LeRobot's are whole numbers; 0 for one far below 1.

    It is the nearest, which has all samples (30 for 29.97, 4 for 3.9), or where that would play more than
    SLOWER too fast the one below, for which some are left out.
    """
    nearest = round(hz)
    return nearest if nearest * (1 - SLOWER) <= hz else int(hz)
