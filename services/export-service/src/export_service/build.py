"""From an order to a verified dataset in a folder. Blocks, so it runs in a thread."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from msgspec import Struct
from teleop_dataset.v3.info import joint_features
from teleop_dataset.v3.tasks import number_tasks
from teleop_dataset.verify import verify

from export_service.dataset_writer import DatasetWriter, NonFiniteValue
from export_service.errors import NotFinite
from export_service.frame_source import Reader, read_pieces
from export_service.order import Order, provenance
from export_service.plan import Piece

Stage = Literal["data", "statistics", "verify"]
STAGES: tuple[Stage, ...] = ("data", "statistics", "verify")

Watch = Callable[[Stage, int, int], None]
"""Told a stage, the frames done and those to do in all; may raise to stop the work."""


class Built(Struct, frozen=True, kw_only=True):
    """What lies in the folder."""

    episodes: int
    frames: int
    tasks: int
    files: int
    size_bytes: int


def build(root: Path, order: Order, reader: Reader, watch: Watch) -> Built:
    """Write the dataset of `order` into the empty folder `root` and verify it.

    Memory is bounded by two fetches of frames (frame_source.READ_FRAMES, or the longest episode).
    Raises RecordingChanged, NotFinite, VerificationFailed, OSError, and whatever `watch` raises.
    """
    features = joint_features(order.state_names, order.action_names, capture_time=order.capture_time)
    tasks = number_tasks(piece.task for piece in order.pieces)
    with DatasetWriter(root, features, fps=order.fps, tasks=tasks) as writer:
        _write_episodes(writer, order, reader, partial(watch, "data"))
    stats = writer.recorded.finish(root, partial(watch, "statistics"))
    writer.finish(stats, robot_type=order.robot_type, provenance=provenance(order))
    expected = order.report.committed - order.report.excluded
    verify(root, frames=expected, advance=partial(watch, "verify"))
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    return Built(
        episodes=writer.episodes,
        frames=writer.frames,
        tasks=len(tasks),
        files=len(sizes),
        size_bytes=sum(sizes),
    )


def _write_episodes(
    writer: DatasetWriter, order: Order, reader: Reader, advance: Callable[[int, int], None]
) -> None:
    state_width, action_width = len(order.state_names), len(order.action_names)
    batches = read_pieces(reader, order.pieces, state_width=state_width, action_width=action_width)
    for pieces, frames in batches:
        try:
            writer.add(frames, [piece.frames for piece in pieces], [piece.task for piece in pieces])
        except NonFiniteValue as error:
            raise _not_finite(pieces[error.episode], str(error)) from error
        advance(writer.frames, order.frames)
    writer.close_data()


def _not_finite(piece: Piece, key: str) -> NotFinite:
    return NotFinite(
        f"session {piece.session_id} holds a value of {key} that is not finite, in the frames "
        f"{piece.first} to {piece.end - 1}",
        hint='give that episode the outcome "discarded"',
    )
