"""From a dataset whose recorder was killed to one that LeRobot opens, step by step.

An episode is recovered if its rows and, of every camera, its frames are all there, whatever info.json counts.
Episodes are only ever taken from the first one on: what follows one that is not whole has no place.
"""

import math
import shutil
import tempfile
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.errors import NotRepairable
from teleop_dataset.folder import look, open_regular
from teleop_dataset.repair.describe import by_file, describe_film, describe_rows
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
    write_tasks,
)
from teleop_dataset.repair.pictures import cut_video, is_depth, video_facts
from teleop_dataset.repair.report import RepairReport
from teleop_dataset.repair.rows import BadRows, Episode, RowReader
from teleop_dataset.repair.source import (
    clips_of,
    complete_tasks,
    read_info,
    read_tasks,
    trusted_rows,
    unsaved_folders,
)
from teleop_dataset.repair.tables import bring, copy_bytes, cut, leaves_of
from teleop_dataset.repair.videos import place_episodes
from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.episodes import Clip, episodes_schema, statistics_per_row
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import Place
from teleop_dataset.verify import verify

_REWRITTEN = frozenset({layout.INFO, layout.STATS, layout.TASKS})
_FOLDERS = ("data/", "meta/episodes/", "videos/")


def repair(source: Path, target: Path, *, earlier_info: Path | None = None) -> RepairReport:
    """Write what can be recovered of the dataset in `source` to `target`; `source` is only read.

    target        must not exist, or be empty; it appears once it is complete and verified, or not at all
    earlier_info  a meta/info.json of the same recording from a backup, for when that in `source` is torn
    raises        NotRepairable if there is nothing to start from, or somebody still writes to it;
                  VerificationFailed if the outcome is wrong
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise NotRepairable(
            f"{target} is not empty", field="target", hint="name a folder that is not there yet"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        work = _Repair(source, root, earlier_info)
        report = work.run()
        if report.whole:
            verify(
                root,
                frames=report.frames,
                advance=lambda seen, total: None,
                short=work.short,
                not_finite=work.not_finite,
            )
            root.chmod(0o755)
            root.rename(target)
    except (LookupError, TypeError, ValueError, pa.ArrowException, av.FFmpegError) as error:
        # What no step expected: bytes that are damaged, not cut off.
        raise NotRepairable(f"the dataset is damaged: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return report


class _Repair:
    """One repair; each step works with what the steps before it have found.

    short       episodes of which a camera has fewer frames than there are rows
    not_finite  features with infinite values, or such that are no numbers; LeRobot records them as they come
    """

    def __init__(self, source: Path, root: Path, earlier_info: Path | None) -> None:
        self._source, self._root = source, root
        self._report = RepairReport()
        self.short: set[int] = set()
        self.not_finite: set[str] = set()
        self._seen = look(source)
        if unreadable := [each for each in self._seen.skipped if each.is_unreadable]:
            raise NotRepairable(
                f"{unreadable[0].path or source} is {unreadable[0].reason}",
                hint="repair as the user who recorded it: what can't be read would be lost",
            )
        if self._seen.writers:
            raise NotRepairable(
                f"process {min(self._seen.writers)} is still recording to {source}",
                hint="let it end, or end it; an episode that it is saving now would be lost",
            )
        self._info = read_info(source, earlier_info, self._report)
        self._features: Features = self._info["features"]
        self._fps = float(self._info["fps"])
        self._cameras = [key for key, feature in self._features.items() if feature["dtype"] == "video"]

    def run(self) -> RepairReport:
        """Write the dataset, unless nothing of it can be recovered."""
        found = self._bring_rows()
        shards = self._bring_episode_tables()
        own_rows = trusted_rows([shard.table for shard in shards], found, self._cameras)
        known = {index: clips_of(row, self._cameras) for index, row in own_rows.items()}
        clips, why = place_episodes(found, known, self._cameras, self._seen, self._fps)
        films, undecodable = self._describe_films(found[: len(clips)], clips, own_rows)
        episodes = found[: min([len(clips), *undecodable])]
        for episode in found[len(episodes) :]:
            reason = (
                undecodable.get(len(episodes), why) if episode.index == len(episodes) else "comes after it"
            )
            self._report.lose(f"episode {episode.index} ({episode.length} rows)", reason)
        self._name_rest(found)
        if not episodes:
            return self._report
        self._report.episodes, self._report.frames = len(episodes), episodes[-1].first + episodes[-1].length
        counted = self._seen.info.total_episodes if self._seen.info else 0
        self._report.beyond_info = max(0, len(episodes) - counted)
        self._cut_data(found, len(episodes))
        self._bring_videos(clips[: len(episodes)])
        self._write_meta(episodes, clips, shards, own_rows, films)
        self._bring_others()
        return self._report

    def _bring_rows(self) -> list[Episode]:
        """Bring the data files over, each with a footer; their episodes."""
        schema = data_schema(self._features)
        per_row = {
            key: 1 if feature["dtype"] == "image" else math.prod(feature["shape"])
            for key, feature in self._features.items()
        }
        leaves = leaves_of(schema, per_row)
        reader = RowReader(self._features, self._fps)
        for path, _ in self._seen.tables("data"):
            place = Place.of(path)
            brought = bring(self._source / path, self._root / path, schema, leaves)
            if not brought.finished and brought.row_groups:
                self._report.rebuilt[path] = f"a footer for its {brought.row_groups} row groups"
            if brought.problem:
                self._report.lose(f"the end of {path}", brought.problem)
            try:
                if brought.row_groups:
                    reader.read(self._root / path, place)
            except BadRows as error:
                self._report.lose(f"{path} from episode {len(reader.episodes)} on", str(error))
                break
        return reader.episodes

    def _bring_episode_tables(self) -> list[Shard]:
        """Bring the episodes files over as far as they can be read."""
        shards = []
        # With streaming encoding, the statistics of the videos come last.
        streamed = dict(sorted(self._features.items(), key=lambda item: item[1]["dtype"] == "video"))
        for path, _ in self._seen.tables("meta/episodes"):
            for features in (self._features, streamed):
                schema = episodes_schema(features)
                (self._root / path).unlink(missing_ok=True)
                leaves = leaves_of(schema, statistics_per_row(features))
                brought = bring(self._source / path, self._root / path, schema, leaves)
                table = _read_table(self._root / path) if brought.row_groups else None
                if table is not None:
                    shards.append(Shard(Place.of(path), table, brought.finished))
                    break
            else:
                (self._root / path).unlink(missing_ok=True)
        return shards

    def _describe_films(
        self, episodes: list[Episode], clips: list[dict[str, Clip]], own_rows: dict[int, Row]
    ) -> tuple[dict[int, dict[str, EpisodeStats]], dict[int, str]]:
        """Statistics of the video of each episode that has none yet, and why some can't be decoded."""
        films: dict[int, dict[str, EpisodeStats]] = {each.index: {} for each in episodes}
        undecodable: dict[int, str] = {}
        indexes = [each.index for each in episodes if each.index not in own_rows]
        lengths = [each.length for each in episodes]
        for camera in self._cameras:
            counts = [(row.get(f"stats/{camera}/count"), row["length"]) for row in own_rows.values()]
            streamed = any(count and count[0] > length for count, length in counts)
            for place, wanted in by_file(clips, camera, indexes, lengths).items():
                path = self._source / place.video_path(camera)
                stats, problem = describe_film(
                    path, self._features[camera], wanted, self._fps, streamed=streamed
                )
                for index in wanted:
                    if index in stats:
                        films[index][camera] = stats[index]
                    else:
                        undecodable.setdefault(index, problem)
        return films, undecodable

    def _name_rest(self, found: list[Episode]) -> None:
        counted = self._seen.info.total_episodes if self._seen.info else 0
        if counted > len(found):
            missing = f"{counted - len(found)} episodes from episode {len(found)} on"
            self._report.lose(missing, f"{layout.INFO} counts them, but their rows are not there")
        for folder in unsaved_folders(self._source, self._seen):
            self._report.lose(f"{folder}/", "pictures of an episode that was not saved")

    def _cut_data(self, found: list[Episode], kept: int) -> None:
        """Take the rows of episodes that are not kept out of the data files."""
        for path in sorted(self._root.glob("data/*/*.parquet")):
            name = path.relative_to(self._root).as_posix()
            ends = [each.end for each in found[:kept] if each.place == Place.of(name)]
            if not ends:
                path.unlink()
                self._report.rebuilt.pop(name, None)
                self._report.lose(name, "no episode in it is whole")
            elif cut(path, max(ends)):
                self._report.rebuilt[name] = f"cut after its {len(ends)} whole episodes, with a new footer"
            elif name not in self._report.rebuilt:
                self._report.kept.append(name)

    def _bring_videos(self, clips: list[dict[str, Clip]]) -> None:
        for file, video in self._seen.videos():
            used = [
                round(clip.to_s * self._fps)
                for each in clips
                for camera, clip in each.items()
                if camera == file.camera and clip.place.video_path(camera) == file.path
            ]
            source, target = self._source / file.path, self._root / file.path
            if not used:
                self._report.lose(file.path, "no recovered episode shows in it")
            elif video.playable and max(used) == video.frames:
                with open_regular(source) as opened:
                    copy_bytes(opened, target, file.size_bytes)
                self._report.kept.append(file.path)
            else:
                cut_video(source, target, max(used))
                self._report.rebuilt[file.path] = f"cut after {max(used)} of {video.frames} frames"

    def _write_meta(
        self,
        episodes: list[Episode],
        clips: list[dict[str, Clip]],
        shards: list[Shard],
        own_rows: dict[int, Row],
        films: dict[int, dict[str, EpisodeStats]],
    ) -> None:
        report, root = self._report, self._root
        stored_tasks = read_tasks(self._source)
        tasks = complete_tasks(list(stored_tasks), episodes, own_rows, report)
        rows = []
        for episode in episodes:
            row = own_rows.get(episode.index)
            if row is None:
                stats = describe_rows(root, episode, self._features, self._fps) | films[episode.index]
                row = episode_row(episode, tasks, clips[episode.index], stats)
            else:
                self._flag(episode, clips[episode.index])
            rows.append(row)
        for key in self._features:
            if any(not_finite(row, key) for row in rows):
                self.not_finite.add(key)
                report.flags.append(f"{key} has values that are infinite or no numbers")
        kept, written = write_episodes(root, shards, rows, set(own_rows), self._features)
        report.kept += kept
        if written:
            begin = len(rows) - pq.read_metadata(root / written).num_rows
            report.rebuilt[written] = f"the rows of {len(rows) - begin} episodes from episode {begin} on"
        if tasks == stored_tasks:
            self._copy(layout.TASKS)
        else:
            write_tasks(root, tasks)
            report.rebuilt[layout.TASKS] = "the tasks that the rows name"
        if stats_are_current(self._read(layout.STATS), self._features, report.frames):
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

    def _flag(self, episode: Episode, clips: dict[str, Clip]) -> None:
        for camera, clip in clips.items():
            frames = round((clip.to_s - clip.from_s) * self._fps)
            if frames != episode.length:
                self.short.add(episode.index)
                self._report.flags.append(
                    f"episode {episode.index}: {camera} has {frames} frames for {episode.length} rows"
                )

    def _complete_video_facts(self) -> None:
        """LeRobot notes a video's encoding after the first episode: it may not have come to that."""
        noted = [self._features[camera].get("info") or {} for camera in self._cameras]
        for camera, info in zip(self._cameras, noted, strict=True):
            if "video.codec" not in info:
                path = next(self._root.glob(f"videos/{camera}/*/*.mp4"))
                others = next((each for each in noted if "video.codec" in each), {})
                facts = video_facts(path, is_depth(self._features[camera]))
                self._info["features"][camera]["info"] = {**others, **info, **facts}

    def _bring_others(self) -> None:
        for path in self._seen.files:
            if path not in _REWRITTEN and not path.startswith(_FOLDERS):
                self._copy(path)

    def _copy(self, path: str) -> None:
        with open_regular(self._source / path) as file:
            copy_bytes(file, self._root / path, self._seen.files[path].size_bytes)
        self._report.kept.append(path)

    def _read(self, path: str) -> bytes:
        try:
            with open_regular(self._source / path) as file:
                return file.read()
        except OSError:
            return b""


def _read_table(path: Path) -> pa.Table | None:
    try:
        table = pq.read_table(path)
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException):
        return None
    return table if "episode_index" in table.column_names else None
