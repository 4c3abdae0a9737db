"""How an episode of a dataset plays, against how it was recorded. Pure."""

from msgspec import Struct

from teleop_export.planning.pieces import Piece
from teleop_export.timing.loop_times import US_PER_S, Integers
from teleop_export.timing.pace import SLOWER, Chosen

# Of one episode.
MAX_STALLS = 100


class StallTime(Struct, frozen=True, kw_only=True):
    """For some time there are no rows: a frame is followed by the next one as if no time had passed.

    after_frame  index of the frame before
    next_frame   index of the frame after
    seconds      how long, s
    """

    after_frame: int
    next_frame: int
    seconds: float


class SlowTime(Struct, frozen=True, kw_only=True):
    """The loop ran slower than declared: that plays too fast.

    first_frame  index of the first of these frames
    last_frame   index of the last
    """

    first_frame: int
    last_frame: int
    measured_hz: float


class EpisodeTime(Struct, frozen=True, kw_only=True):
    """How an exported episode plays, against how it was recorded.

    episode_index    of the recorded one
    first_frame, end_frame  the frames that it is made of lie between them
    measured_hz      loop rate, without its stalls; None if it is too short to tell
    recorded_s       how long it took, stalls and all
    dataset_s        how long it takes in the dataset
    stalls           the first MAX_STALLS
    slow             the first MAX_STALLS stretches, of two seconds or more, in which the loop was slower than
                     the dataset by more than a twentieth
    shared_times     of so many frames the time is that of another one, too: they count as evenly spread
    """

    episode_index: int | None
    first_frame: int
    end_frame: int
    measured_hz: float | None
    recorded_s: float
    dataset_s: float
    stalls: list[StallTime] = []
    slow: list[SlowTime] = []
    shared_times: int = 0


def told_time(piece: Piece, chosen: Chosen, index: Integers, *, fps: int) -> EpisodeTime:
    """How `piece` plays in a dataset of `fps` rows per second.

    chosen  of its samples with this `index`
    """
    return EpisodeTime(
        episode_index=piece.episode_index,
        first_frame=piece.first,
        end_frame=piece.end,
        measured_hz=chosen.pace.hz,
        recorded_s=chosen.recorded_us / US_PER_S,
        dataset_s=len(chosen.positions) / fps,
        stalls=[
            StallTime(
                after_frame=int(index[stall.before]),
                next_frame=int(index[stall.after]),
                seconds=stall.us / US_PER_S,
            )
            for stall in chosen.stalls[:MAX_STALLS]
        ],
        slow=[
            SlowTime(
                first_frame=int(index[each.first]), last_frame=int(index[each.last]), measured_hz=each.hz
            )
            for each in chosen.slow[:MAX_STALLS]
        ],
        shared_times=chosen.shared,
    )


def worth_telling(time: EpisodeTime, declared_fps: float | None, fps: int) -> bool:
    """Whether a report names it: the loop was not as declared, or the dataset takes another time."""
    if declared_fps and not declared_fps.is_integer():
        return True
    off = time.measured_hz is not None and declared_fps and abs(time.measured_hz / declared_fps - 1) > SLOWER
    named = time.stalls or time.slow or time.shared_times
    return bool(off or named or abs(time.recorded_s - time.dataset_s) > 1 / fps)
