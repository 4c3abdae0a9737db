"""Makes finished segments of what an encoder has recorded.

`python -m lerobot_robot_backend.video_finish <stream dir>` does it for what a dead encoder left.
"""

import hashlib
import logging
import os
import sys
from pathlib import Path

import msgspec
from teleop_schema.files import DroppedFrames, FrameTimes, VideoFile
from teleop_schema.limits import Limits

from lerobot_robot_backend.part_file import PartPictures, PartWriter, read_part
from lerobot_robot_backend.spool_reader import SpoolReader
from lerobot_robot_backend.stream import WRITER_LOCK, SpoolError, is_locked, locked, replace_file
from lerobot_robot_backend.video_codec import EncodingFailed, write_mp4
from lerobot_robot_backend.video_spool import ENCODER_LOCK, Segment, find_parts

_LOST_END = "the recording and its encoder were killed: pictures of these frames may be missing"

log = logging.getLogger("lerobot_robot_backend.video")


def finish_part(path: Path) -> Segment | None:
    """Make a finished segment of a part that nobody writes any more; None if there is no picture in it.

    Interrupted at any point it can be done again. Raises OSError, for example if the disk is full.
    """
    part = read_part(path)
    if part.head is None or not part.numbers:
        for dropped in part.dropped:
            log.error("%s: nothing was recorded: %s", path, dropped.reason)
        path.unlink()
        return None
    target, temporary = path.with_suffix(".mp4"), path.with_suffix(".new")
    try:
        with path.open("rb") as file:
            depth = part.head.depth_unit is not None
            write_mp4(temporary, PartPictures(file, part), len(part.numbers), part.head.fps, depth=depth)
    except EncodingFailed as error:
        log.error("%s: %s; it is kept as %s.damaged", path, error, path.stem)
        temporary.unlink(missing_ok=True)
        path.rename(path.with_suffix(".damaged"))
        return None
    with temporary.open("rb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.seek(0, os.SEEK_END)
    os.replace(temporary, target)
    video = VideoFile(
        robot_id=part.head.robot_id,
        session=part.head.session,
        camera_key=part.head.camera_key,
        chunk_index=part.head.chunk_index,
        start_us=min(part.captured_us[0], part.captured_us[-1]),
        end_us=max(part.captured_us[0], part.captured_us[-1]),
        size_bytes=size_bytes,
        sha256=sha256,
        fps=part.head.fps,
        height=part.head.height,
        width=part.head.width,
        frames=FrameTimes(tuple(part.frame_indexes), tuple(part.captured_us)),
        dropped=tuple(part.dropped),
        depth_unit=part.head.depth_unit,
    )
    replace_file(target.with_suffix(".json"), msgspec.json.encode(video), durable=True)
    path.unlink()
    return Segment(target, video)


def recover(stream_dir: Path) -> list[Segment]:
    """Finish what a dead encoder left, if nobody records or encodes any more; returns the segments made.

    Raises OSError, for example if the disk is full: then it can be done again.
    """
    parts = find_parts(stream_dir)
    if not parts:
        return []
    with locked(stream_dir / ENCODER_LOCK) as held:
        if not held or is_locked(stream_dir / WRITER_LOCK):
            return []
        newest = {path.parent: path for path in parts}
        for path in newest.values():
            _name_lost_end(stream_dir, path)
        return [segment for path in parts if (segment := finish_part(path))]


def _name_lost_end(stream_dir: Path, path: Path) -> None:
    """Say in a part that frames followed of which nobody knows whether there were pictures."""
    part = read_part(path)
    if part.ended or not part.frame_indexes:
        return
    after = part.frame_indexes[-1] + 1
    end = _count_frames(stream_dir, after)
    writer = PartWriter(path)
    try:
        writer.append_end(DroppedFrames(after, end, _LOST_END) if end > after else None)
    finally:
        writer.close()


def _count_frames(stream_dir: Path, after: int) -> int:
    """How many frames the stream has; at least `after`."""
    try:
        reader = SpoolReader(stream_dir)
    except SpoolError:
        return after
    try:
        reader.seek(after)
        while reader.read(Limits()) is not None:
            pass
        return max(after, reader.next_index)
    finally:
        reader.close()


def main() -> int:
    """Command line; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        recover(Path(sys.argv[1]))
    except OSError as error:
        log.error("%s: %s", sys.argv[1], error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
