"""Judges what a dataset's folder is ready for, given a look at it. Pure: touches no file.

lerobot-record saves an episode in this order: tasks, data, videos, info.json, stats.json. So a higher
`total_episodes` in info.json means that an episode is there completely.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from teleop_schema.words import counted

from teleop_dataset.folder import DatasetSeen, FileSeen

SECOND_NS = 1_000_000_000
# stats.json is still being written when info.json says that an episode is saved.
DEBOUNCE_NS = 2 * SECOND_NS
# With batch encoding, videos of saved episodes follow after info.json.
LATE_VIDEO_NS = 10 * SECOND_NS
# Usually longer than people leave a recorder alone between two episodes.
QUIET_NS = 300 * SECOND_NS
_VERSION = "v3."
# What to do with a dataset of another format.
CONVERT = "convert it with LeRobot (from v2.1: python -m lerobot.scripts.convert_dataset_v21_to_v30)"


class Readiness(StrEnum):
    """What to do with a dataset now."""

    BUSY = "busy"  # nothing to save now
    COMMIT = "commit"  # being recorded, with new episodes that are worth a backup
    FINALISED = "finalised"  # closed by its writer, complete
    DEAD = "dead"  # not closed, and nobody will close it: needs a repair
    UNSUPPORTED = "unsupported"  # of another version of the format


@dataclass(frozen=True)
class Verdict:
    """The judgement, and the files of a snapshot of the dataset.

    reason  for people
    files   (stored path, size in bytes) of every file of this state; empty when there is nothing to save
    flags   faults of the recording itself, which are reported but are no reason to refuse it
    """

    kind: Readiness
    reason: str
    files: tuple[tuple[str, int], ...] = ()
    total_episodes: int = 0
    total_frames: int = 0
    flags: tuple[str, ...] = ()

    @property
    def finalised(self) -> bool:
        """Every Parquet file has its footer, and the totals add up."""
        return self.kind is Readiness.FINALISED


def judge(
    seen: DatasetSeen,
    *,
    now_ns: int,
    saved_episodes: int = 0,
    quiet_ns: int = QUIET_NS,
) -> Verdict:
    """Judge what `seen` is ready for.

    now_ns          ns since the Unix epoch
    saved_episodes  episodes in the last saved state
    quiet_ns        how long nothing may change before the writer counts as dead
    """
    if not seen.files:
        return Verdict(Readiness.BUSY, "the folder is empty or gone")
    if seen.info and not seen.info.codebase_version.startswith(_VERSION):
        return Verdict(
            Readiness.UNSUPPORTED,
            f"not backed up: its format is {seen.info.codebase_version}, and only v3.0 is supported: "
            + CONVERT,
        )
    recorders = [file for file in seen.files.values() if file.is_recorders]
    if changing := _changing(seen, recorders):
        return Verdict(Readiness.BUSY, f"{changing} is being written")
    still_ns = unchanged_ns(seen, recorders, now_ns)
    # Even a complete dataset: stats.json may be half written.
    if still_ns < DEBOUNCE_NS:
        return Verdict(Readiness.BUSY, "it has just changed")
    unfinished = what_is_unfinished(seen)
    quiet = still_ns >= quiet_ns
    stranger = _unsettled_stranger(seen, now_ns)
    if unfinished is None and stranger is None and (quiet or not _encoding(seen)):
        return _with_files(seen, Readiness.FINALISED, "closed and complete", _flags(seen))
    if seen.info and not seen.info.total_episodes and not seen.tables("data"):
        return Verdict(Readiness.BUSY, "no episode is saved yet")
    if stranger is not None:
        return _recording(seen, unfinished or f"{stranger} is being written", saved_episodes, still_ns)
    why = unfinished or f"{_encoding(seen)[0]}/ is still there"
    # A process that holds a Parquet file open lives, however long it has been silent.
    if quiet and not seen.writers:
        reason = f"{why}; nothing has changed for {still_ns // SECOND_NS} seconds and no process writes to it"
        if seen.writers is None:
            reason += " (as far as this machine can tell)"
        return _with_files(seen, Readiness.DEAD, reason, _flags(seen))
    return _recording(seen, why, saved_episodes, still_ns)


def unchanged_ns(seen: DatasetSeen, files: Sequence[FileSeen], now_ns: int) -> int:
    """For how many nanoseconds these files have not changed: by the file system's clock, if the looks agree.

    A file system's clock may be ahead (network storage, a board whose clock was set back), and then two looks
    show it. The board's clock may be set ahead, and then it is not longer than since a look saw otherwise.
    """

    def age_ns(file: FileSeen) -> int:
        told_ns = now_ns - file.changed_ns
        return told_ns if file.otherwise_ns is None else min(told_ns, seen.looked_at_ns - file.otherwise_ns)

    return max(min(map(age_ns, files), default=0), seen.looked_at_ns - seen.same_since_ns)


def _recording(seen: DatasetSeen, why: str, saved_episodes: int, still_ns: int) -> Verdict:
    """The verdict on a dataset that somebody is still writing."""
    if seen.info is None:
        return Verdict(Readiness.BUSY, seen.info_problem)
    # Between two saved episodes a backup would hold nothing new, or half an episode.
    if seen.info.total_episodes in (0, saved_episodes):
        return Verdict(Readiness.BUSY, f"all saved episodes are backed up; {why}")
    for file, video in seen.videos():
        if not video.playable:
            return Verdict(Readiness.BUSY, f"{file.own_path} is incomplete: {video.problem or 'cut off'}")
    if not seen.tables("data"):
        return Verdict(Readiness.BUSY, "the data files are not there yet")
    flags = _flags(seen)
    # Fewer pictures than rows: the encoder may only be late.
    if flags and still_ns < LATE_VIDEO_NS:
        return Verdict(Readiness.BUSY, flags[0])
    reason = f"{counted(seen.info.total_episodes, 'episode')} saved, {saved_episodes} backed up"
    return _with_files(seen, Readiness.COMMIT, reason, flags)


def _changing(seen: DatasetSeen, files: Sequence[FileSeen]) -> str | None:
    """The first of the files that changed while it was looked at."""
    return next((file.own_path for file in files if file.path in seen.changing), None)


def _unsettled_stranger(seen: DatasetSeen, now_ns: int) -> str | None:
    """A file that somebody else writes to.

    While LeRobot records, a log that grows in its folder is left out, so that nothing waits for it. A closed
    dataset is saved as a whole, once, and not each time that the log grows.
    """
    strangers = [file for file in seen.files.values() if not file.is_recorders]
    unsettled = [file for file in strangers if unchanged_ns(seen, [file], now_ns) < DEBOUNCE_NS]
    return _changing(seen, strangers) or next((file.own_path for file in unsettled), None)


def _encoding(seen: DatasetSeen) -> list[str]:
    """Folders in which an episode's video is being encoded (or was, when the recorder died)."""
    return [path for path in seen.temporary if path.startswith("tmp")]


def what_is_unfinished(seen: DatasetSeen) -> str | None:
    """Why the dataset is not complete, whether or not somebody writes to it; None if it is."""
    if seen.info is None:
        return seen.info_problem
    totals = {"data": seen.info.total_frames, "meta/episodes": seen.info.total_episodes}
    for folder, total in totals.items():
        rows = 0
        for path, table in seen.tables(folder):
            if table.row_groups is None:
                return f"{path} has no footer" + (table.problem and f": {table.problem}")
            rows += sum(table.row_groups)
        if not total:
            return "it has no episodes"
        if rows != total:
            return f"{folder} has {counted(rows, 'row')}, but info.json says {total}"
    for path in ("meta/tasks.parquet", "meta/stats.json"):
        if path not in seen.files:
            return f"there is no {path}"
    for file, video in seen.videos():
        if not video.playable:
            return f"{file.own_path} is incomplete: {video.problem or 'cut off'}"
    filmed = {file.camera for file, _ in seen.videos()}
    missing = [camera for camera in seen.info.cameras if camera not in filmed]
    return f"there is no video of {missing[0]}" if missing else None


def _flags(seen: DatasetSeen) -> tuple[str, ...]:
    if seen.info is None:
        return ()
    frames = dict.fromkeys(seen.info.cameras, 0)
    for file, video in seen.videos():
        if file.camera in frames:
            frames[file.camera] += video.whole_frames
    return tuple(
        f"{camera} has {counted(count, 'video frame')} for {counted(seen.info.total_frames, 'row')}"
        for camera, count in frames.items()
        if count < seen.info.total_frames
    )


def _with_files(seen: DatasetSeen, kind: Readiness, reason: str, flags: tuple[str, ...]) -> Verdict:
    return Verdict(
        kind,
        reason,
        tuple(
            (file.path, file.size_bytes)
            for file in seen.files.values()
            if file.is_recorders or kind is not Readiness.COMMIT
        ),
        seen.info.total_episodes if seen.info else 0,
        seen.info.total_frames if seen.info else 0,
        flags,
    )
