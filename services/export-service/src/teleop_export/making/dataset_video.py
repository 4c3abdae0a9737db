"""The video of a dataset: all of its cameras, side by side. Blocks."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from teleop_dataset.v3.stats import Stats

from teleop_export.making.camera_track import CameraTrack
from teleop_export.making.rows import Rows, ShownEpisodes
from teleop_export.making.video_source import Chunks, Files
from teleop_export.planning.order import Order
from teleop_export.planning.plan import Piece
from teleop_export.planning.report import CameraReport


class DatasetVideo:
    """Takes episodes in order, each camera in a thread of its own."""

    def __init__(
        self, root: Path, order: Order, chunks: Chunks, files: Files, watch: Callable[[int, int], None]
    ) -> None:
        """
        watch  told the pictures shown so far, and those to be shown in all; may raise to stop
        """
        self._order = order
        self._watch = watch
        self._episodes = 0
        self._total = self._expected()
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
            )
            for number, camera in enumerate(order.cameras)
        ]
        self._threads = ThreadPoolExecutor(max(1, len(self._tracks)), thread_name_prefix="camera")

    @property
    def files(self) -> int:
        return sum(track.files for track in self._tracks)

    @property
    def bytes(self) -> int:
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
        with ExitStack() as stack:
            for track in self._tracks:
                stack.callback(track.close)
        if error is None and self._tracks:
            self._total = sum(track.rows for track in self._tracks)
            self._advance()
