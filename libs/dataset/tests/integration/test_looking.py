"""What the real LeRobot leaves on the disk at each step, looked at and judged."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from teleop_dataset.finding import find_datasets
from teleop_dataset.folder import DatasetSeen, look
from teleop_dataset.mp4 import read_movie
from teleop_dataset.readiness import DEBOUNCE_NS, QUIET_NS, Readiness, judge
from teleop_testing.waiting import PATIENCE_S

SOON_NS = 60 * 10**9
FRAMES = (21, 30, 17, 24)
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"


def kind(seen: DatasetSeen, *, after_ns: int = SOON_NS, saved: int = 0) -> Readiness:
    """The judgement as if it were that long after the last change, however slow this machine is."""
    return judge(seen, now_ns=changed_ns(seen) + after_ns, saved_episodes=saved).kind


def changed_ns(seen: DatasetSeen) -> int:
    return max((file.changed_ns for file in seen.files.values()), default=0)


def files_of(dataset: Path) -> list[Path]:
    return sorted(path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file())


def test_closed_dataset_is_finalised(recording):
    """Right after the recorder has closed it, and for ever."""
    verdict = judge(look(recording.whole), now_ns=time.time_ns() + DEBOUNCE_NS)
    assert (verdict.kind, verdict.total_episodes, verdict.total_frames) == (
        Readiness.FINALISED,
        4,
        sum(FRAMES),
    )
    assert verdict.flags == ()
    assert {path for path, _ in verdict.files} == {path.as_posix() for path in files_of(recording.whole)}
    assert kind(look(recording.whole), after_ns=QUIET_NS * 10) is Readiness.FINALISED


@pytest.mark.parametrize("episode", [0, 3])
@pytest.mark.parametrize(
    "step", ["halfway", "_save_episode_data", "_save_episode_video:0", "_save_episode_metadata"]
)
def test_episode_in_the_making_is_no_news(recording, episode, step):
    """Until info.json counts it; if the recorder dies meanwhile, the dataset is dead, if there is data."""
    seen = look(recording.state(episode, step))
    assert kind(seen, saved=episode) is Readiness.BUSY
    assert kind(seen, saved=episode - 1) is (Readiness.COMMIT if episode else Readiness.BUSY)
    nothing = (episode, step) == (0, "halfway")
    assert kind(seen, after_ns=QUIET_NS, saved=episode) is (Readiness.BUSY if nothing else Readiness.DEAD)


@pytest.mark.parametrize("episode", [0, 1, 2, 3])
def test_saved_episode_is_a_commit(recording, episode):
    """Each episode, as soon as it is saved; its video holds exactly the frames of the rows."""
    seen = look(recording.state(episode, "done"))
    verdict = judge(seen, now_ns=changed_ns(seen) + SOON_NS, saved_episodes=episode)
    assert (verdict.kind, verdict.total_episodes, verdict.flags) == (Readiness.COMMIT, episode + 1, ())
    assert [video.frames for _, video in seen.videos()] == [sum(FRAMES[: episode + 1])] * 2
    assert kind(seen, saved=episode + 1) is Readiness.BUSY


def test_growing_files_begin_as_they_were(recording):
    """What later states share with earlier ones, which is what a backup need not send again."""
    states = [recording.state(episode, "done") for episode in range(4)] + [recording.whole]
    tables = [(state / "data/chunk-000/file-000.parquet").read_bytes() for state in states]
    assert all(after.startswith(before) for before, after in pairwise(tables))
    media = []
    # The first episode's packets change once: joined to the second, they get parameter sets (H.264).
    for state in states[1:]:
        data = (state / VIDEO).read_bytes()
        with (state / VIDEO).open("rb") as file:
            movie = read_movie(file, len(data))
        media.append(data[movie.media_begin : movie.media_begin + movie.media_bytes])
    assert all(after.startswith(before) for before, after in pairwise(media))


def test_footers_are_read_as_pyarrow_reads_them(recording):
    """Rows of each row group, without pyarrow."""
    seen = look(recording.whole)
    for folder in ("data", "meta/episodes"):
        for path, table in seen.tables(folder):
            metadata = pq.read_metadata(recording.whole / path)
            expected = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            assert list(table.row_groups) == expected


def test_every_state_is_found(recording):
    """Each of the folders is a dataset, torn or not."""
    found = list(find_datasets(recording.folder))
    assert recording.whole in found
    assert recording.state(0, "halfway") in found


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells by /proc")
def test_recorder_that_lives_is_seen(recording, tmp_path):
    """A dataset that has been quiet for long is not dead while its recorder holds the data file open."""
    dataset = tmp_path / "picking"
    subprocess.run(
        ["cp", "-r", str(recording.state(3, "halfway")), str(dataset)], check=True, timeout=PATIENCE_S
    )
    with (dataset / "data/chunk-000/file-000.parquet").open("ab"):
        seen = look(dataset)
        assert seen.writers == {os.getpid()}
        assert kind(seen, after_ns=QUIET_NS * 10, saved=3) is Readiness.BUSY
    assert kind(look(dataset), after_ns=QUIET_NS * 10, saved=3) is Readiness.DEAD


def test_dataset_being_copied_is_not_final(recording, tmp_path):
    """File by file, in any order: only the last one completes it."""
    whole = recording.whole
    copied: list[Path] = []
    for path in files_of(whole):
        seen = look(tmp_path / "copy")
        assert kind(seen) is not Readiness.FINALISED, copied
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes((whole / path).read_bytes())
        copied.append(path)
    assert kind(look(tmp_path / "copy")) is Readiness.FINALISED
