"""Turns a dataset whose recorder was killed into one that LeRobot can open, step by step.

An episode is recovered if all of its rows and all of its frames of every camera can be read, whatever
info.json counts. A dataset can't have gaps, so episodes after a lost one move up and get new numbers.
"""

import math
import shutil
import tempfile
from collections.abc import Container, Mapping
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.disk.opening import open_regular
from teleop_schema.words import counted

from teleop_dataset.errors import NotRepairable
from teleop_dataset.flags import EpisodeFlag
from teleop_dataset.folder import MAX_DOCUMENT_BYTES, FileSeen, VideoSeen, look
from teleop_dataset.repair.decoding import Decoding, find_broken_rows, find_broken_video
from teleop_dataset.repair.describe import describe_films, describe_rows
from teleop_dataset.repair.episode_stats import EpisodeStats
from teleop_dataset.repair.metadata import (
    Row,
    Shard,
    episode_row,
    not_finite,
    stats_are_current,
    write_episodes,
    write_info,
    write_stats,
)
from teleop_dataset.repair.own_stats import compare_rows
from teleop_dataset.repair.pictures import cut_video, is_depth, joined, video_facts
from teleop_dataset.repair.renumber import NUMBERS, Numbered, Whole, renumber, rewrite
from teleop_dataset.repair.report import RepairReport
from teleop_dataset.repair.rows import Episode, RowReader
from teleop_dataset.repair.source import (
    Lineage,
    clips_of,
    complete_tasks,
    read_info,
    read_tasks,
    trusted_rows,
    unsaved_folders,
)
from teleop_dataset.repair.tables import bring, copy_bytes, cut, leaves_of, read_episodes
from teleop_dataset.repair.videos import Clips, place_episodes, uncuttable
from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.episodes import PICTURES, Clip, episodes_schema, statistics_per_row
from teleop_dataset.v3.files import write_tasks
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.verify import verify

_REWRITTEN = frozenset({layout.INFO, layout.STATS, layout.TASKS})
_FOLDERS = ("data/", "meta/episodes/", "videos/")


def repair(
    source: Path, target: Path, *, earlier_info: Path | None = None, decoding: Decoding | None = None
) -> RepairReport:
    """Write what can be recovered of the dataset in `source` to `target`; `source` is only read.

    target        must not exist, or be empty; it appears once it is complete and verified, or not at all
    earlier_info  a meta/info.json of the same recording from a backup, for when that in `source` is torn
    decoding      what find_sound decoded of it, if it was asked
    raises        NotRepairable if there is nothing to start from, or somebody still writes to it;
                  VerificationFailed if the outcome is wrong
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise NotRepairable(
            f"{target} is not empty", field="target", hint="name a folder that does not exist yet"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that a rename makes it appear; hidden, so that nobody takes it for a dataset.
    root = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        work = _Repair(source, root, earlier_info, decoding or Decoding())
        report = work.run()
        if report.whole:
            verify(root, frames=report.frames, advance=lambda seen, total: None, short=work.short)
            # A temporary folder is closed to others.
            root.chmod(0o755)
            # Last: a repair that is killed leaves nothing under that name.
            root.rename(target)
    except MemoryError as error:
        raise NotRepairable(
            "the dataset takes more memory than its repair may have",
            hint="if it was recorded like this, repair it on a machine with more memory: sync-agent repair",
        ) from error
    except (LookupError, TypeError, ValueError, RecursionError, pa.ArrowException, av.FFmpegError) as error:
        # An error that no step expected: damaged bytes, not missing ones. FFmpeg also tells of full disks.
        if isinstance(error, OSError):
            raise
        raise NotRepairable(f"the dataset is damaged: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return report


class _Repair:
    """One repair; each step uses the results of the steps before it.

    short  episodes of which a camera has fewer frames than there are rows
    """

    def __init__(self, source: Path, root: Path, earlier_info: Path | None, decoding: Decoding) -> None:
        self._source, self._root, self._decoding = source, root, decoding
        self._report = RepairReport()
        self.short: set[int] = set()
        self._seen = look(source)
        if unreadable := [each for each in self._seen.skipped if each.is_unreadable]:
            raise NotRepairable(
                f"{unreadable[0].path or source} is {unreadable[0].reason}",
                hint="repair it as the user who recorded it: unreadable files would be lost",
            )
        # A Parquet file that is still written has no footer either.
        if self._seen.writers:
            raise NotRepairable(
                f"process {min(self._seen.writers)} is still recording to {source}",
                hint="wait for it to end, or end it; an episode it is saving now would be lost",
            )
        self._info = read_info(source, earlier_info, self._report)
        self._features: Features = self._info["features"]
        self._fps = float(self._info["fps"])
        self._lineage = Lineage(source)
        self._cameras = [key for key, feature in self._features.items() if feature["dtype"] == "video"]

    def run(self) -> RepairReport:
        """Write the dataset, unless nothing of it can be recovered."""
        found = self._bring_rows()
        shards = self._bring_episode_tables()
        own_rows = trusted_rows([shard.table for shard in shards], found, self._cameras)
        known = {index: clips_of(row, self._cameras) for index, row in own_rows.items()}
        clips, lost = place_episodes(found, known, self._cameras, self._seen, self._fps)
        films, undecodable = self._look_at_pictures(found, clips, own_rows)
        lost |= undecodable | self._compare_rows(found, own_rows)
        for number, episode in enumerate(found):
            if number in lost:
                self._report.lose(f"episode {episode.index} ({counted(episode.length, 'row')})", lost[number])
        self._name_rest(found)
        whole = {number: episode for number, episode in enumerate(found) if number not in lost}
        uncut = uncuttable(self._source, [clips[number] for number in whole], self._fps)
        episodes = renumber(
            [
                Whole(episode, clips[number], own_rows.get(number), films.get(number, {}))
                for number, episode in whole.items()
            ],
            uncut,
        )
        if not episodes:
            return self._report
        last = episodes[-1].episode
        self._report.episodes, self._report.frames = len(episodes), last.first + last.length
        expected = self._seen.info.total_episodes if self._seen.info else 0
        self._report.beyond_info = sum(each.whole.found.index >= expected for each in episodes)
        self._report.renumbered = {
            each.whole.found.index: each.episode.index
            for each in episodes
            if each.whole.found.index != each.episode.index
        }
        self._place_data(episodes)
        self._bring_videos(episodes, uncut)
        self._write_meta(episodes, shards)
        self._bring_others(episodes)
        return self._report

    def _bring_rows(self) -> list[Episode]:
        """Copy the data files, each with a footer, and find their episodes."""
        schema = data_schema(self._features)
        per_row = {
            key: 1 if feature["dtype"] == "image" else math.prod(feature["shape"])
            for key, feature in self._features.items()
        }
        leaves = leaves_of(schema, per_row)
        reader = RowReader(self._features, self._fps)
        for path, _ in self._seen.tables("data"):
            place = FileNumber.of(path)
            brought = bring(self._source / path, self._root / path, schema, leaves)
            if not brought.finished and brought.row_groups:
                self._report.rebuilt[path] = f"a footer for its {counted(brought.row_groups, 'row group')}"
            if brought.problem:
                self._report.lose(f"the end of {path}", brought.problem)
            if brought.row_groups:
                for problem in reader.read(self._root / path, place):
                    self._report.lose(f"rows of {path}", problem)
        return reader.episodes

    def _bring_episode_tables(self) -> list[Shard]:
        """Copy the episodes files as far as they can be read."""
        shards = []
        # With streaming encoding, the statistics of the videos come last.
        streamed = dict(sorted(self._features.items(), key=lambda item: item[1]["dtype"] == "video"))
        for path, _ in self._seen.tables("meta/episodes"):
            # Which of the two wrote the file, its bytes alone tell.
            for features in (self._features, streamed):
                schema = episodes_schema(features, self._lineage.columns)
                (self._root / path).unlink(missing_ok=True)
                leaves = leaves_of(schema, statistics_per_row(features, self._lineage.columns))
                brought = bring(self._source / path, self._root / path, schema, leaves)
                table = read_episodes(self._root / path) if brought.row_groups else None
                if table is not None:
                    shards.append(Shard(FileNumber.of(path), table, brought.finished))
                    break
            else:
                (self._root / path).unlink(missing_ok=True)
        return shards

    def _look_at_pictures(
        self, found: list[Episode], clips: dict[int, Clips], own_rows: dict[int, Row]
    ) -> tuple[dict[int, dict[str, EpisodeStats]], dict[int, str]]:
        """Statistics of the video of each episode that has none yet, and why some can't be decoded."""
        pictured = sum(feature["dtype"] in PICTURES for feature in self._features.values())
        self._decoding.expect(pictured * sum(each.length for each in found))
        streamed = {
            camera
            for camera in self._cameras
            for row in own_rows.values()
            if (count := row.get(f"stats/{camera}/count")) and count[0] > row["length"]
        }
        told, untold = ({at: clips[at] for at in clips if (at in own_rows) is own} for own in (True, False))
        known = self._decoding, self._source, self._features, self._fps
        films, broken = describe_films(*known, untold, streamed=streamed)
        in_rows = find_broken_rows(self._decoding, self._root, self._features, dict(enumerate(found)))
        return films, broken | find_broken_video(*known, told) | in_rows

    def _compare_rows(self, found: list[Episode], own_rows: dict[int, Row]) -> dict[int, str]:
        """Why some episodes' rows are not those that were recorded."""
        told = {number: (found[number], row) for number, row in sorted(own_rows.items())}
        problems, doubts = compare_rows(self._root, self._features, told)
        self._report.flags += doubts
        return problems

    def _name_rest(self, found: list[Episode]) -> None:
        expected = self._seen.info.total_episodes if self._seen.info else 0
        # Not one by one: a damaged total may be any number.
        present = sorted({each.index for each in found if each.index < expected})
        for first, end in zip((0, *(index + 1 for index in present)), (*present, expected), strict=True):
            if first == end:
                continue
            missing = f"{counted(end - first, 'episode')} from episode {first} on"
            self._report.lose(missing, f"{layout.INFO} counts them, but their rows are missing")
        for folder in unsaved_folders(self._source, self._seen):
            self._report.lose(f"{folder}/", "pictures of an episode that was not saved")

    def _place_data(self, episodes: list[Numbered]) -> None:
        """Keep only the rows of these episodes in the data files."""
        for path in sorted(self._root.glob("data/*/*.parquet")):
            name = path.relative_to(self._root).as_posix()
            kept = [each for each in episodes if each.whole.found.place == FileNumber.of(name)]
            if not kept:
                path.unlink()
                self._report.rebuilt.pop(name, None)
                self._report.lose(name, "no episode in it is complete")
            elif not all(each.stays or each.whole.found == each.episode for each in kept):
                self._report.rebuilt.pop(name, None)
                target = self._root / kept[0].episode.place.data_path()
                made = self._root / "renumbered"
                rewrite(self._root, made, kept)
                path.unlink()
                target.parent.mkdir(parents=True, exist_ok=True)
                made.rename(target)
                new = target.relative_to(self._root).as_posix()
                self._report.rebuilt[new] = f"{counted(len(kept), 'complete episode')} of {name}, renumbered"
            elif cut(path, max(each.episode.end for each in kept)):
                self._report.rebuilt[name] = (
                    f"cut after {counted(len(kept), 'complete episode')}, with a new footer"
                )
            elif name not in self._report.rebuilt:
                self._report.kept.append(name)

    def _bring_videos(self, episodes: list[Numbered], uncut: Container[tuple[str, FileNumber]]) -> None:
        """Keep only the frames of these episodes in each camera's files, and all frames of `uncut` ones."""
        for camera in self._cameras:
            for file, video in self._seen.videos():
                place = FileNumber.of(file.own_path)
                kept = [each for each in episodes if each.whole.clips[camera].place == place]
                if file.camera != camera:
                    continue
                if not kept:
                    self._report.lose(file.own_path, "no recovered episode uses it")
                    continue
                clips = [each.whole.clips[camera] for each in kept]
                ranges = joined(
                    [(round(clip.from_s * self._fps), round(clip.to_s * self._fps)) for clip in clips]
                )
                if (camera, place) in uncut:
                    ranges = [(0, video.frames)]
                path = kept[0].clips[camera].place.video_path(camera)
                self._bring_video(file, video, path, ranges)

    def _bring_video(
        self, file: FileSeen, video: VideoSeen, path: str, ranges: list[tuple[int, int]]
    ) -> None:
        """Some stretches of a video's frames, as the file at `path`."""
        source, target = self._source / file.own_path, self._root / path
        if video.playable and ranges == [(0, video.frames)]:
            with open_regular(source) as opened:
                copy_bytes(opened, target, file.size_bytes)
            if path == file.own_path:
                self._report.kept.append(path)
            else:
                self._report.rebuilt[path] = f"{file.own_path} as it was"
            return
        cut_video(source, target, ranges, self._fps)
        frames = sum(end - begin for begin, end in ranges)
        if ranges == [(0, frames)] and path == file.own_path:
            self._report.rebuilt[path] = f"cut after {frames} of {counted(video.frames, 'frame')}"
        else:
            self._report.rebuilt[path] = f"{frames} of {counted(video.frames, 'frame')} of {file.own_path}"

    def _write_meta(self, episodes: list[Numbered], shards: list[Shard]) -> None:
        report, root = self._report, self._root
        stored_tasks = read_tasks(self._source)
        tasks = complete_tasks(
            list(stored_tasks), [(each.episode, each.whole.row) for each in episodes], report
        )
        rows = [self._row(each, tasks) for each in episodes]
        trusted = {each.episode.index for each in episodes if each.stays and each.whole.row is not None}
        for key in self._features:
            if any(not_finite(row, key) for row in rows):
                # LeRobot records them unchanged, so they are not damage.
                report.flags.append(f"{key} has infinite or NaN values")
        kept, written = write_episodes(root, shards, rows, trusted, self._features)
        report.kept += kept
        if written:
            begin = len(rows) - pq.read_metadata(root / written).num_rows
            added = counted(len(rows) - begin, "episode")
            report.rebuilt[written] = f"the rows of {added} from episode {begin} on"
        if tasks == stored_tasks:
            self._copy(layout.TASKS)
        else:
            write_tasks(root, tasks)
            report.rebuilt[layout.TASKS] = "the tasks that the rows name"
        # Kept where they can be: those of LeRobot are what a training run has used.
        if not report.renumbered and stats_are_current(
            self._read(layout.STATS), self._features, report.frames
        ):
            self._copy(layout.STATS)
        else:
            write_stats(root, rows, self._features)
            report.rebuilt[layout.STATS] = "added up from the episodes'"
        self._complete_video_facts()
        write_info(root, self._info, episodes=len(episodes), frames=report.frames, tasks=len(tasks))
        if (root / layout.INFO).read_bytes() == self._read(layout.INFO):
            report.kept.append(layout.INFO)
        else:
            report.rebuilt[layout.INFO] = "the totals"

    def _row(self, each: Numbered, tasks: list[str]) -> Row:
        """The row of an episode: its own with its new numbers, or a computed one."""
        row, root, fps = each.whole.row, self._root, self._fps
        if row is None:
            stats = describe_rows(root, each.episode, self._features, fps) | dict(each.whole.films)
            labels = self._lineage.labels(each.whole.found.index)
            return episode_row(each.episode, tasks, each.clips, stats) | labels
        self._flag(each.episode, each.clips)
        if each.stays:
            return row
        # Only the numbers of an episode that moves change; its joints and pictures are the same.
        numbers = {key: self._features[key] for key in NUMBERS}
        stats = describe_rows(root, each.episode, numbers, fps)
        return row | episode_row(each.episode, tasks, each.clips, stats) | {"tasks": row["tasks"]}

    def _flag(self, episode: Episode, clips: Mapping[str, Clip]) -> None:
        for camera, clip in clips.items():
            frames = round((clip.to_s - clip.from_s) * self._fps)
            if frames != episode.length:
                self.short.add(episode.index)
                self._report.flags.append(str(EpisodeFlag(episode.index, camera, frames, episode.length)))

    def _complete_video_facts(self) -> None:
        """Add the video's encoding to info.json; LeRobot writes it only after the first episode."""
        noted = [self._features[camera].get("info") or {} for camera in self._cameras]
        for camera, info in zip(self._cameras, noted, strict=True):
            if "video.codec" not in info:
                path = next(self._root.glob(f"videos/{camera}/*/*.mp4"))
                others = next((each for each in noted if "video.codec" in each), {})
                facts = video_facts(path, is_depth(self._features[camera]))
                self._info["features"][camera]["info"] = {**others, **info, **facts}

    def _bring_others(self, episodes: list[Numbered]) -> None:
        others = self._seen.files.keys() - _REWRITTEN
        numbers = {each.whole.found.index: each.episode.index for each in episodes}
        if self._report.lost and layout.PROVENANCE in others and self._lineage.write(self._root, numbers):
            self._report.rebuilt[layout.PROVENANCE] = "the recovered episodes"
            others -= {layout.PROVENANCE}
        for path in sorted(others):
            if not path.startswith(_FOLDERS):
                self._copy(path)

    def _copy(self, path: str) -> None:
        file = self._seen.files[path]
        with open_regular(self._source / file.own_path) as opened:
            copy_bytes(opened, self._root / file.own_path, file.size_bytes)
        self._report.kept.append(path)

    def _read(self, path: str) -> bytes:
        try:
            with open_regular(self._source / path) as file:
                content = file.read(MAX_DOCUMENT_BYTES + 1)
                return content if len(content) <= MAX_DOCUMENT_BYTES else b""
        except OSError:
            return b""
