"""What a dataset's folder is judged ready for, from what was seen of it."""

from dataclasses import replace

import msgspec
import pytest
from teleop_dataset.folder import DatasetSeen, FileSeen, Info, TableSeen, VideoSeen
from teleop_dataset.readiness import DEBOUNCE_NS, LATE_VIDEO_NS, QUIET_NS, Readiness, judge
from teleop_schema.identifiers import stored_path

NOW_NS = 1_800_000_000 * 10**9
CAMERA = "observation.images.front"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"


def file(path: str, content: TableSeen | VideoSeen | None = None, age_ns: int = QUIET_NS * 2) -> FileSeen:
    changed = NOW_NS - age_ns
    return FileSeen(path, 100, changed, changed, 1, content)


def info(episodes: int, frames: int, version: str = "v3.0") -> Info:
    feature = {"dtype": "video"}
    encoded = {
        "codebase_version": version,
        "total_episodes": episodes,
        "total_frames": frames,
        "features": {CAMERA: feature},
    }
    return msgspec.convert(encoded, Info)


def seen(files: list[FileSeen], told: Info | None, **more: object) -> DatasetSeen:
    common = [file("meta/info.json"), file("meta/stats.json"), file("meta/tasks.parquet")]
    fields = {
        "looked_at_ns": NOW_NS,
        "same_since_ns": NOW_NS,
        "files": {each.path: each for each in [*common, *files]},
        "info": told,
        "info_problem": "" if told else "meta/info.json can't be read (yet)",
        "temporary": (),
        "skipped": (),
        "changing": (),
        "writers": frozenset(),
    }
    return DatasetSeen(**(fields | more))


def finished(episodes: int = 2, frames: int = 60, age_ns: int = QUIET_NS * 2, **more: object) -> DatasetSeen:
    files = [
        file(DATA, TableSeen((30,) * (frames // 30)), age_ns),
        file(EPISODES, TableSeen((episodes,)), age_ns),
        file(VIDEO, VideoSeen(frames, frames), age_ns),
    ]
    return seen(files, info(episodes, frames), **more)


def recording(
    episodes: int = 2, filmed: int | None = None, age_ns: int = 5 * 10**9, **more: object
) -> DatasetSeen:
    frames = 30 * episodes
    shown = frames if filmed is None else filmed
    files = [file(DATA, TableSeen(None), age_ns)]
    if shown:
        files.append(file(VIDEO, VideoSeen(shown, shown), age_ns))
    return seen(files, info(episodes, frames), **({"writers": frozenset({7})} | more))


def kind(dataset: DatasetSeen, saved: int = 0) -> Readiness:
    return judge(dataset, now_ns=NOW_NS, saved_episodes=saved).kind


def test_closed_dataset_is_finalised():
    """All footers are there, and the totals add up: all of it is the snapshot."""
    verdict = judge(finished(), now_ns=NOW_NS)
    assert verdict.finalised
    assert (verdict.total_episodes, verdict.total_frames) == (2, 60)
    assert verdict.files == tuple((path, 100) for path in finished().files)


@pytest.mark.parametrize(
    "change",
    [
        {"info": info(3, 90)},
        {"info": info(2, 61)},
        {"info": info(1, 60)},
        {"info": None, "info_problem": "half written"},
    ],
)
def test_totals_that_do_not_add_up_are_not_final(change):
    """A dataset that is being merged, copied or edited has files that don't belong together yet."""
    assert kind(replace(finished(age_ns=10**10), **change), saved=9) is not Readiness.FINALISED


@pytest.mark.parametrize("path", [DATA, EPISODES, VIDEO, "meta/stats.json", "meta/tasks.parquet"])
def test_missing_files_are_not_final(path):
    """A dataset needs each of its parts; nobody writes to it, so it is dead."""
    whole = finished()
    files = {name: each for name, each in whole.files.items() if name != path}
    assert kind(replace(whole, files=files)) is Readiness.DEAD


def test_saved_episode_is_worth_a_backup():
    """total_episodes rose above what was backed up: the state is a commit."""
    verdict = judge(recording(2), now_ns=NOW_NS, saved_episodes=1)
    assert verdict.kind is Readiness.COMMIT
    assert not verdict.finalised
    assert (verdict.total_episodes, verdict.total_frames, verdict.flags) == (2, 60, ())
    assert (DATA, 100) in verdict.files


def test_nothing_new_is_nothing_to_save():
    """Between two episodes there is nothing to do."""
    assert kind(recording(2), saved=2) is Readiness.BUSY
    assert kind(recording(0, age_ns=10**10)) is Readiness.BUSY


def test_started_over_in_the_same_folder_is_saved():
    """Fewer episodes than were backed up: another recording, not an old state."""
    assert kind(recording(1), saved=5) is Readiness.COMMIT


def test_a_change_is_given_time():
    """stats.json follows info.json: a state counts once nothing has changed for a moment."""
    assert kind(recording(2, age_ns=DEBOUNCE_NS - 1)) is Readiness.BUSY
    assert kind(recording(2, age_ns=DEBOUNCE_NS)) is Readiness.COMMIT
    assert kind(recording(2, changing=(DATA,))) is Readiness.BUSY
    assert kind(finished(age_ns=DEBOUNCE_NS - 1)) is Readiness.BUSY


def test_clock_of_the_files_may_be_ahead():
    """Files from the future: what counts is for how long the looks have seen no change."""
    ahead = recording(2, age_ns=-(10**15))
    assert kind(ahead) is Readiness.BUSY
    assert kind(replace(ahead, same_since_ns=NOW_NS - DEBOUNCE_NS)) is Readiness.COMMIT


def test_clock_that_is_set_ahead_makes_nothing_old():
    """What a look saw otherwise a moment ago has not been still for the days by which the clock jumped."""

    def days_old_but_seen_otherwise(seen: DatasetSeen, ago_ns: int) -> DatasetSeen:
        files = {path: replace(each, otherwise_ns=NOW_NS - ago_ns) for path, each in seen.files.items()}
        return replace(seen, files=files)

    jumped = recording(2, age_ns=3 * 24 * 3600 * 10**9, writers=None)
    assert kind(jumped) is Readiness.DEAD
    assert kind(days_old_but_seen_otherwise(jumped, DEBOUNCE_NS - 1)) is Readiness.BUSY
    assert kind(days_old_but_seen_otherwise(jumped, QUIET_NS - 1)) is Readiness.COMMIT
    assert kind(days_old_but_seen_otherwise(jumped, QUIET_NS)) is Readiness.DEAD


def test_a_growing_log_is_waited_for_by_nobody_but_the_last_state():
    """It keeps no episode from being saved; the closed dataset is saved with it, once."""
    log = stored_path("record:1.log")
    growing = {log: file(log, age_ns=0)}
    recorded = recording(2)
    verdict = judge(replace(recorded, files={**recorded.files, **growing}), now_ns=NOW_NS)
    assert (verdict.kind, dict(verdict.files)) == (Readiness.COMMIT, dict.fromkeys(recorded.files, 100))
    closed = finished()
    closed = replace(closed, files={**closed.files, **growing}, changing=(log,))
    assert kind(closed) is Readiness.COMMIT
    verdict = judge(closed, now_ns=NOW_NS, saved_episodes=2)
    assert (verdict.kind, "record:1.log is being written" in verdict.reason) == (Readiness.BUSY, True)
    settled = replace(closed, files={**closed.files, log: file(log)}, changing=())
    verdict = judge(settled, now_ns=NOW_NS, saved_episodes=2)
    assert (verdict.kind, log in dict(verdict.files)) == (Readiness.FINALISED, True)


def test_incomplete_video_is_waited_for():
    """An mp4 that is just being moved over can't be played."""
    dataset = recording(2)
    for video in (VideoSeen(problem="no moov"), VideoSeen(60, 59)):
        torn = file(VIDEO, video, 5 * 10**9)
        assert kind(replace(dataset, files={**dataset.files, VIDEO: torn})) is Readiness.BUSY


def test_fewer_frames_than_rows_are_flagged_not_refused():
    """Video may follow late; if it doesn't, the state is saved and the lack is told."""
    assert kind(recording(2, filmed=59)) is Readiness.BUSY
    verdict = judge(recording(2, filmed=59, age_ns=LATE_VIDEO_NS), now_ns=NOW_NS)
    assert verdict.kind is Readiness.COMMIT
    assert verdict.flags == (f"{CAMERA} has 59 video frames for 60 rows",)


def test_dead_recorder():
    """Quiet for minutes, no footer, and nobody writes to it."""
    verdict = judge(recording(2, age_ns=QUIET_NS, writers=frozenset()), now_ns=NOW_NS, saved_episodes=2)
    assert verdict.kind is Readiness.DEAD
    assert DATA in verdict.reason
    assert verdict.files
    assert kind(recording(2, age_ns=QUIET_NS - 1, writers=frozenset()), saved=2) is Readiness.BUSY


def test_recorder_that_waits_is_alive():
    """People take long breaks between two episodes; the recorder holds its file open."""
    assert kind(recording(2, age_ns=QUIET_NS * 9), saved=2) is Readiness.BUSY
    assert kind(recording(3, age_ns=QUIET_NS * 9), saved=2) is Readiness.COMMIT


def test_unknown_writers_are_told():
    """Where a machine doesn't tell who writes, silence is all there is to go by."""
    verdict = judge(recording(2, age_ns=QUIET_NS, writers=None), now_ns=NOW_NS)
    assert verdict.kind is Readiness.DEAD
    assert "as far as this machine can tell" in verdict.reason


def test_torn_info_of_a_dead_recorder():
    """info.json is rewritten in place: it may be half of one for ever."""
    dataset = recording(2, age_ns=QUIET_NS, writers=frozenset(), info=None, info_problem="half")
    assert kind(dataset) is Readiness.DEAD
    assert kind(replace(dataset, writers=frozenset({7}))) is Readiness.BUSY


def test_first_episode_that_was_torn_is_dead_too():
    """No episode counted yet, but rows are there: perhaps a whole episode."""
    assert kind(recording(0, filmed=30, age_ns=QUIET_NS, writers=frozenset())) is Readiness.DEAD
    empty = seen([], info(0, 0))
    assert kind(empty) is Readiness.BUSY


def test_encoding_leftovers():
    """tmp*/ says that an episode is being encoded; years later it says nothing."""
    assert kind(finished(age_ns=5 * 10**9, temporary=("tmpab12cd34",)), saved=2) is Readiness.BUSY
    assert kind(finished(temporary=("tmpab12cd34", "images"))) is Readiness.FINALISED


def test_other_formats_are_named():
    """A v2.1 dataset is none of ours, and never will be."""
    verdict = judge(replace(finished(), info=info(2, 60, "v2.1")), now_ns=NOW_NS)
    assert verdict.kind is Readiness.UNSUPPORTED
    assert "v2.1" in verdict.reason


def test_folder_that_vanished():
    """lerobot-edit-dataset moves the folder aside before it writes the new one."""
    assert judge(replace(finished(), files={}, info=None), now_ns=NOW_NS).kind is Readiness.BUSY
