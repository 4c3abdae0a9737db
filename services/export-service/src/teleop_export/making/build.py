"""From an order to a verified dataset in a folder. Blocks, so it runs in a thread."""

from collections.abc import Callable, Collection
from functools import partial
from math import ceil
from pathlib import Path

import pyarrow as pa
from teleop_dataset.v3.info import ACTION, STATE, recorded_features
from teleop_dataset.v3.writer import DatasetWriter, NonFiniteValue
from teleop_dataset.verify import verify

from teleop_export.errors import NotFinite
from teleop_export.making.dataset_video import DatasetVideo
from teleop_export.making.frame_source import Reader, read_pieces
from teleop_export.making.rows import choose_rows, with_ages
from teleop_export.making.video_source import Chunks, Files
from teleop_export.planning.added_columns import bytes_of, features_of, with_columns
from teleop_export.planning.order import Order, provenance
from teleop_export.planning.plan import Piece
from teleop_export.planning.report import EpisodeTime, finish_report
from teleop_export.planning.splits import ALL
from teleop_export.planning.stages import Built, Content, Watch
from teleop_export.timing.loop_times import AROUND_S


def build(root: Path, order: Order, reader: Reader, chunks: Chunks, files: Files, watch: Watch) -> Built:
    """Write the dataset of `order` into the empty folder `root` and verify it.

    Memory is bounded by two fetches of frames (added_columns.READ_FRAMES, or the longest episode); of video,
    by a picture per camera and what is known of those of one session.
    Raises RecordingChanged, NotFinite, VideoUnreadable, VerificationFailed, OSError, and what `watch` raises.
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
    with (
        DatasetWriter(
            root,
            features,
            fps=order.fps,
            limits=order.limits,
            finite=_must_be_finite(order),
        ) as writer,
        DatasetVideo(root, order, chunks, files, partial(watch, "video")) as video,
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
        provenance=provenance(order, report),
        splits={name: (first, end) for name, first, end in order.splits} or {ALL: (0, writer.episodes)},
    )
    verify(
        root,
        frames=report.committed - report.excluded,
        advance=partial(watch, "verify"),
        # StreamingLeRobotDataset, which such a dataset is for, computes them otherwise.
        single_precision=not order.streaming_safe,
    )
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    content = Content(
        episodes=writer.episodes,
        frames=writer.frames,
        tasks=len(writer.tasks),
        files=len(sizes),
        size_bytes=sum(sizes),
        videos=video.files,
        video_bytes=video.bytes,
    )
    return Built(content=content, report=report)


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
        try:
            writer.add(table, rows.lengths, rows.tasks, clips, pictures)
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
