"""Repairs of what is torn or damaged beyond the end of a recording: what is lost is named."""

import random
import shutil
from contextlib import suppress
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.errors import NotRepairable
from teleop_dataset.repair import Decoding, RepairReport, find_sound, repair
from teleop_schema.errors import BackendError
from teleop_testing.datasets.repaired import (
    CAMERAS,
    DATA,
    FRAMES,
    META,
    assert_lerobot_reads,
    assert_picked_episodes,
    assert_same_episodes,
    episode_rows,
    hole,
)

VIDEOS = [f"videos/{camera}/chunk-000/file-000.mp4" for camera in CAMERAS]


def test_torn_info_is_salvaged_or_taken_from_a_backup(recording, tmp_path):
    """info.json is rewritten in place: whatever of it is left, or an earlier one, tells the features."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    info = source / "meta/info.json"
    text = info.read_text()
    info.write_text(text[: text.index('"total_episodes"')])
    assert repair(source, tmp_path / "salvaged").episodes == 3
    info.write_text(text[:300])
    with pytest.raises(NotRepairable) as refused:
        repair(source, tmp_path / "refused")
    assert refused.value.field == "meta/info.json"
    earlier = recording.state(0, "done") / "meta/info.json"
    report = repair(source, tmp_path / "backed_up", earlier_info=earlier)
    assert_same_episodes(tmp_path / "backed_up", recording.whole, 3)
    assert report.flags == ["meta/info.json was torn: taken from info.json, as it was earlier"]


def test_lost_tasks_are_named_by_number(recording, tmp_path):
    """Without tasks.parquet the rows still say which episodes had the same task."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    (source / "meta/tasks.parquet").write_bytes(b"PAR1")
    report = repair(source, tmp_path / "repaired")
    assert [row["tasks"] for row in episode_rows(tmp_path / "repaired")] == [
        ["task 0"],
        ["task 0"],
        ["task 1"],
    ]
    assert [loss.what for loss in report.lost if "task" in loss.what] == [
        "the text of task 0",
        "the text of task 1",
    ]


def test_video_cut_off_by_a_full_disk(recording, tmp_path):
    """An mp4 that was being moved over when the power went: the episodes before the cut come back."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    video = source / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4"
    video.write_bytes(video.read_bytes()[:-40])
    report = repair(source, tmp_path / "repaired")
    assert report.episodes == 2
    assert any("is cut off after" in loss.why for loss in report.lost)
    assert_same_episodes(tmp_path / "repaired", recording.whole, 2)


def test_frames_dropped_while_recording_are_not_guessed(recording, tmp_path):
    """A camera with fewer frames than rows, and no row that says where: only what is certain comes back."""
    source = shutil.copytree(recording.state(2, "done"), tmp_path / "torn")
    video = source / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
    short = tmp_path / "short.mp4"
    with av.open(str(video)) as given, av.open(str(short), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        for number, packet in enumerate(given.demux(stream)):
            if packet.size and number < 66:
                packet.stream = copy
                made.mux(packet)
    shutil.copy(short, video)
    report = repair(source, tmp_path / "repaired")
    assert not report.whole
    assert any("frames were dropped while recording" in loss.why for loss in report.lost)


def change_unnoticed(path: Path, group: int, column: int) -> None:
    """A small hole in a column's values that neither Parquet nor its compression notices."""
    chunk = pq.read_metadata(path).row_group(group).column(column)
    begin = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    whole, bytes_before = pq.read_table(path), path.read_bytes()
    for at in range(begin + 64, begin + chunk.total_compressed_size - 256, 16):
        path.write_bytes(bytes_before[:at] + bytes(192) + bytes_before[at + 192 :])
        with suppress(OSError, pa.ArrowException):
            if not pq.read_table(path).equals(whole):
                return
    raise AssertionError("every hole is noticed")


@pytest.mark.parametrize("closed", [True, False])
def test_rows_with_other_values_are_not_the_recorded_ones(recording, tmp_path, closed):
    """Parquet reads zeros as if they had been recorded; the episode's own statistics tell."""
    source = shutil.copytree(recording.whole, tmp_path / "torn")
    change_unnoticed(source / DATA, 1, 0)
    if not closed:
        (source / "meta/info.json").write_text("{")
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired", earlier_info=recording.whole / "meta/info.json")
    assert [(loss.what, loss.why) for loss in report.lost] == [
        ("episode 1 (30 rows)", "its rows do not match its own statistics: action")
    ]
    assert_picked_episodes(tmp_path / "repaired", recording.whole, [0, 2, 3])
    assert find_sound(tmp_path / "repaired") is not None


def begin_of(episode: int) -> int:
    return sum(FRAMES[:episode])


def torn_or_closed(recording, target: Path, *, closed: bool) -> Path:
    """All four episodes, as a killed recorder leaves them, or with all that LeRobot says of them."""
    return shutil.copytree(recording.whole if closed else recording.state(3, "done"), target)


@pytest.mark.parametrize("closed", [True, False])
def test_hole_in_a_video_costs_the_episode_that_shows_there(recording, tmp_path, closed):
    """The episodes after it come back, numbered on, with their own rows and pictures."""
    source = torn_or_closed(recording, tmp_path / "torn", closed=closed)
    hole(source / VIDEOS[0], range(begin_of(1) + 9, begin_of(1) + 14))
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert (report.episodes, report.renumbered) == (3, {2: 1, 3: 2})
    assert [loss.what for loss in report.lost] == ["episode 1 (30 rows)"]
    assert "can't be decoded" in report.lost[0].why
    assert_picked_episodes(tmp_path / "repaired", recording.whole, [0, 2, 3])
    assert_lerobot_reads(tmp_path / "repaired", 3)
    assert find_sound(tmp_path / "repaired") is not None


@pytest.mark.parametrize("closed", [True, False])
def test_first_episode_is_broken(recording, tmp_path, closed):
    """What follows begins the dataset."""
    source = torn_or_closed(recording, tmp_path / "torn", closed=closed)
    hole(source / VIDEOS[1], range(0, 3))
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert report.renumbered == {1: 0, 2: 1, 3: 2}
    assert_picked_episodes(tmp_path / "repaired", recording.whole, [1, 2, 3])
    assert_lerobot_reads(tmp_path / "repaired", 3)


def test_what_was_decoded_once_is_not_again(recording, tmp_path):
    """A repair that follows the look decodes only what that has not come to; both tell how far they are."""
    source = torn_or_closed(recording, tmp_path / "torn", closed=True)
    hole(source / VIDEOS[1], range(0, 3))
    told: list[tuple[int, int]] = []
    decoding = Decoding(lambda seen, total: told.append((seen, total)))
    assert find_sound(source, decoding) is None
    assert told[0] == (1, 2 * sum(FRAMES))
    assert told[-1][0] >= 2 * sum(FRAMES) - FRAMES[0]
    told.clear()
    assert repair(source, tmp_path / "repaired", decoding=decoding).episodes == 3
    assert told == []


@pytest.mark.parametrize("closed", [True, False])
def test_hole_in_the_rows_costs_the_episode_that_had_them(recording, tmp_path, closed):
    """With their rows the others' frames are known; without, `index` says how many lack before them."""
    source = shutil.copytree(recording.whole, tmp_path / "torn")
    if not closed:
        shutil.rmtree(source / "meta/episodes")
    column = pq.read_metadata(source / DATA).row_group(1).column(0)
    with (source / DATA).open("r+b") as file:
        file.seek(column.data_page_offset)
        file.write(
            bytes(column.total_compressed_size - (column.data_page_offset - column.dictionary_page_offset))
        )
    report = repair(source, tmp_path / "repaired")
    assert (report.episodes, report.renumbered) == (3, {2: 1, 3: 2})
    assert_picked_episodes(tmp_path / "repaired", recording.whole, [0, 2, 3])
    assert_lerobot_reads(tmp_path / "repaired", 3)


def test_video_that_a_full_disk_cut_off_between_others(record, tmp_path):
    """Of several mp4 files one ends early: only what it lacks is lost."""
    plan = [[index, 20, "pick"] for index in range(6)]
    small = {"data_files_size_in_mb": 0.001, "video_files_size_in_mb": 0.001}
    record(tmp_path / "whole", episodes=plan, **small)
    source = shutil.copytree(tmp_path / "whole", tmp_path / "torn")
    video = source / f"videos/{CAMERAS[0]}/chunk-000/file-001.mp4"
    video.write_bytes(video.read_bytes()[:-40])
    report = repair(source, tmp_path / "repaired")
    assert report.episodes == 5
    assert report.renumbered == {2: 1, 3: 2, 4: 3, 5: 4}
    assert_picked_episodes(
        tmp_path / "repaired", tmp_path / "whole", [each for each in range(6) if each != 1]
    )
    assert_lerobot_reads(tmp_path / "repaired", 5)


def with_frames_dropped(whole: Path, target: Path) -> Path:
    """The dataset as if one camera had lost the last two frames of episode 1, as LeRobot would write it."""
    shutil.copytree(whole, target)
    video = target / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4"
    lost = range(FRAMES[0] + FRAMES[1] - 2, FRAMES[0] + FRAMES[1])
    with (
        av.open(str(whole / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4")) as given,
        av.open(str(video), "w") as made,
    ):
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        for number, packet in enumerate(given.demux(stream)):
            if packet.size and number not in lost:
                early = packet.duration * len(lost) if number > lost[0] else 0
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, copy
                made.mux(packet)
    table = pq.read_table(target / META)
    for name, since in (("from", 2), ("to", 1)):
        column = f"videos/{CAMERAS[1]}/{name}_timestamp"
        times = [
            time - 2 / 30 * (episode >= since)
            for episode, time in enumerate(table.column(column).to_pylist())
        ]
        table = table.set_column(table.column_names.index(column), column, [times])
    with pq.ParquetWriter(target / META, table.schema, compression="snappy") as writer:
        writer.write_table(table)
    return target


@pytest.mark.parametrize("torn", [False, True])
def test_dropped_frames_that_rows_tell_of_are_flagged(recording, tmp_path, torn):
    """An episode's own row says how long its video is: nothing is lost, the lack is told."""
    source = with_frames_dropped(recording.whole, tmp_path / "short")
    if torn:
        table = (source / META).read_bytes()
        footer = int.from_bytes(table[-8:-4], "little")
        (source / META).write_bytes(table[: -8 - footer])
    report = repair(source, tmp_path / "repaired")
    assert (report.episodes, report.lost) == (4, [])
    assert report.flags == [f"episode 1: {CAMERAS[1]} has 28 frames for 30 rows"]
    assert episode_rows(tmp_path / "repaired") == episode_rows(
        with_frames_dropped(recording.whole, tmp_path / "again")
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(16))
def test_damage_anywhere_is_reported(recording, tmp_path, seed):
    """Flipped bits, cut ends and zeros in any file: a report or a refusal, and nothing half done.

    And what is called sound before is what a repair would have left as it is.
    """
    chance = random.Random(seed)
    state = chance.choice([recording.state(3, "halfway"), recording.state(0, "done"), recording.whole])
    source = shutil.copytree(state, tmp_path / "torn")
    path = chance.choice([path for path in sorted(source.rglob("*.*")) if path.is_file()])
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    match chance.randrange(3):
        case 0:
            del data[place:]
        case 1:
            data[place : place + 400] = bytes(len(data[place : place + 400]))
        case 2:
            data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    sound = find_sound(source)
    report = RepairReport()
    with suppress(BackendError):
        report = repair(source, tmp_path / "repaired")
    assert report.whole == (tmp_path / "repaired").exists()
    assert sound is None or (report.rebuilt, report.lost, report.frames) == ({}, [], sound.frames)
    assert {each.name for each in tmp_path.iterdir()} <= {"torn", "repaired"}
