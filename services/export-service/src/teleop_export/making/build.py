"""From an order to a verified dataset in a folder. Blocks, so it runs in a thread."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path
from typing import Self

import pyarrow as pa
from teleop_dataset.v3.episodes import NO_LABELS
from teleop_dataset.v3.info import ACTION, STATE, recorded_features
from teleop_dataset.v3.labels import COLUMNS, label_columns
from teleop_dataset.v3.stats import Stats
from teleop_dataset.v3.writer import DatasetWriter, NonFiniteValue
from teleop_dataset.verify import verify
from teleop_dataset.verify_written import verify_written

from teleop_export.errors import NotFinite
from teleop_export.making.camera_track import CameraTrack
from teleop_export.making.frame_source import Reader, read_pieces
from teleop_export.making.media_process import MediaPool
from teleop_export.making.rows import Rows, ShownEpisodes, choose_rows, with_ages
from teleop_export.making.video_source import Chunks, Files
from teleop_export.planning.added_columns import features_of, with_columns
from teleop_export.planning.order import Order, lineage, provenance
from teleop_export.planning.pieces import Piece, bytes_of
from teleop_export.planning.played import EpisodeTime
from teleop_export.planning.report import Built, CameraReport, finish_report
from teleop_export.planning.splits import ALL
from teleop_export.planning.stages import Content, Watch
from teleop_export.timing.loop_times import AROUND_S


class DatasetVideo:
    """Takes episodes in order, each camera in a thread of its own."""

    def __init__(
        self,
        root: Path,
        order: Order,
        chunks: Chunks,
        files: Files,
        media: MediaPool,
        watch: Callable[[int, int], None],
    ) -> None:
        """
        watch  told the pictures shown so far, and those to be shown in all; may raise to stop
        """
        self._order = order
        self._watch = watch
        self._episodes = 0
        self._total = self._expected()
        with ExitStack() as lent:
            self._tracks = [
                CameraTrack(
                    root,
                    camera,
                    {source.session_id: (source, number) for source in order.sources},
                    chunks,
                    files,
                    fps=order.fps,
                    limits=order.limits,
                    rows=order.report.exported,
                    advance=self._advance,
                    media=lent.enter_context(media.lend(camera)),
                )
                for number, camera in enumerate(order.cameras)
            ]
            # Until then an error returns what was lent.
            self._lent = lent.pop_all()
        self._threads = ThreadPoolExecutor(max(1, len(self._tracks)), thread_name_prefix="camera")

    @property
    def files(self) -> int:
        """How many video files were begun, of all cameras."""
        return sum(track.files for track in self._tracks)

    @property
    def bytes(self) -> int:
        """Bytes of all pictures that were written."""
        return sum(track.bytes for track in self._tracks)

    def add(self, pieces: Sequence[Piece], rows: Rows) -> dict[str, ShownEpisodes]:
        """Write the pictures of some episodes of one session; by camera's feature, in their order.

        Raises RecordingChanged, VideoUnreadable, OSError, and what `watch` raises.
        """
        show = partial(CameraTrack.add, pieces=pieces, episode_index=self._episodes, rows=rows)
        found = list(self._threads.map(show, self._tracks))
        self._episodes += len(pieces)
        return {track.camera.key: each for track, each in zip(self._tracks, found, strict=True)}

    def report(self) -> list[CameraReport]:
        """What became of each camera's pictures."""
        return [
            track.report(sum(source.pictures[number] for source in self._order.sources))
            for number, track in enumerate(self._tracks)
        ]

    def stats(self) -> dict[str, Stats]:
        """Of each camera's feature, over the whole dataset."""
        return {track.camera.key: track.levels.describe() for track in self._tracks}

    def _expected(self) -> int:
        """About how many pictures will be shown."""
        rate = {source.session_id: min(1.0, self._order.fps / source.fps) for source in self._order.sources}
        rows = sum(piece.frames * rate[piece.session_id] for piece in self._order.pieces)
        return round(rows) * len(self._order.cameras)

    def _advance(self) -> None:
        done = sum(track.rows for track in self._tracks)
        self._total = max(self._total, done)
        self._watch(done, self._total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: object
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        with self._lent as stack:
            for track in self._tracks:
                stack.callback(track.close)
        if error is None and self._tracks:
            # What was expected was only about right; whoever watches sees it end at all of it.
            self._total = sum(track.rows for track in self._tracks)
            self._advance()


def build(
    root: Path,
    order: Order,
    name: str,
    reader: Reader,
    chunks: Chunks,
    files: Files,
    media: MediaPool,
    watch: Watch,
) -> Built:
    """Write the dataset of `order`, whose fingerprint is `name`, into the empty folder `root` and verify it.

    Memory is bounded by two fetches of frames (pieces.READ_FRAMES, or the longest episode); of video,
    by a picture per camera and what is known of those of one session.
    Pictures are decoded in processes of `media`, one for each camera.
    Raises RecordingChanged, NotFinite, VideoUnreadable, MediaEnded, VerificationFailed, OSError, and
    what `watch` raises.
    """
    features = recorded_features(
        order.state_names,
        order.action_names,
        order.cameras,
        fps=order.fps,
        capture_time=order.capture_time,
        observation_age=order.repeated and order.capture_time,
        added=features_of(order.columns),
    )
    labels = COLUMNS if order.labelled else NO_LABELS
    with (
        DatasetWriter(
            root,
            features,
            fps=order.fps,
            limits=order.limits,
            finite=_must_be_finite(order),
            labels=labels,
        ) as writer,
        DatasetVideo(root, order, chunks, files, media, partial(watch, "video")) as video,
    ):
        rows, times = _write_episodes(writer, video, order, reader, partial(watch, "data"))
    report = finish_report(
        order.report, order.pieces, rows, times, order.fps, video.report(), writer.not_finite
    )
    stats = writer.recorded.finish(root, partial(watch, "statistics"))
    writer.finish(
        stats,
        video.stats(),
        robot_type=order.robot_type,
        provenance=provenance(order, report, name),
        splits={name: (first, end) for name, first, end in order.splits} or {ALL: (0, writer.episodes)},
    )
    verify(
        root,
        frames=report.committed - report.excluded,
        advance=partial(watch, "verify"),
    )
    # StreamingLeRobotDataset, which a streaming-safe dataset is for, computes times otherwise.
    verify_written(root, labels=labels, single_precision=not order.streaming_safe)
    return Built(content=_content(root, writer, video), report=report)


def _content(root: Path, writer: DatasetWriter, video: DatasetVideo) -> Content:
    """What the finished dataset consists of."""
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    return Content(
        episodes=writer.episodes,
        frames=writer.frames,
        tasks=len(writer.tasks),
        files=len(sizes),
        size_bytes=sum(sizes),
        videos=video.files,
        video_bytes=video.bytes,
    )


def _write_episodes(
    writer: DatasetWriter,
    video: DatasetVideo,
    order: Order,
    reader: Reader,
    advance: Callable[[int, int], None],
) -> tuple[list[int], list[EpisodeTime]]:
    """Write all episodes; returns how many rows each of them has, and how it plays."""
    columns = {source.session_id: source.columns for source in order.sources}
    batches = read_pieces(
        reader,
        order.pieces,
        state_width=len(order.state_names),
        action_width=len(order.action_names),
        column_bytes=max(map(bytes_of, columns.values()), default=0),
        around={source.session_id: ceil(AROUND_S * source.fps) for source in order.sources},
    )
    lengths: list[int] = []
    times: list[EpisodeTime] = []
    frames_read = 0
    for fetched in batches:
        rows = choose_rows(fetched, order.which, fps=order.fps)
        pieces = fetched.pieces
        frames_read += len(fetched.frames)
        del fetched
        shown = video.add(pieces, rows)
        # What reading and matching gave back stays in the allocator's arenas: of five hours 70 MiB.
        pa.default_memory_pool().release_unused()
        table = with_ages(
            rows,
            shown,
            observation_age=order.repeated and order.capture_time,
            picture_age=order.capture_time,
        )
        table = with_columns(table, columns[pieces[0].session_id], order.columns)
        clips = {camera: each.clips for camera, each in shown.items()}
        pictures = {camera: each.stats for camera, each in shown.items()}
        labels = label_columns([lineage(piece) for piece in pieces])
        try:
            writer.add(table, rows.lengths, rows.tasks, clips, pictures, labels)
        except NonFiniteValue as error:
            raise _not_finite(order, pieces[error.episode], str(error)) from error
        lengths += rows.lengths
        times += rows.times
        advance(frames_read, order.frames)
    writer.close_data()
    return lengths, times


def _must_be_finite(order: Order) -> Collection[str] | None:
    """Features whose values must be; None: all."""
    if order.refuse_not_finite:
        return None
    return () if order.keep_not_finite else (STATE, ACTION)


def _not_finite(order: Order, piece: Piece, key: str) -> NotFinite:
    again = "" if key in features_of(order.columns) else "request the export again, or "
    return NotFinite(
        f"session {piece.session_id} holds a value of {key} that is NaN or infinite, in the frames "
        f"{piece.first} to {piece.end - 1}",
        field="on_not_finite",
        hint=f'{again}set `"on_not_finite": "keep"`',
    )
