"""Makes finished segments from what a dead encoder left.

Run as `python -m lerobot_robot_backend.shipping.recovery <stream dir>`.
"""

import logging
import sys
from pathlib import Path

from teleop_schema.files import DroppedFrames
from teleop_schema.limits import Limits

from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.locks import is_locked, locked
from lerobot_robot_backend.spool.stream import WRITER_LOCK, SpoolError
from lerobot_robot_backend.video.files import ENCODER_LOCK, WaitingSegment, find_parts
from lerobot_robot_backend.video.finish import finish_part
from lerobot_robot_backend.video.part_file import PartWriter, read_part

_LOST_END = "the recording and its encoder were killed: pictures of these frames may be missing"

log = logging.getLogger("lerobot_robot_backend.video")


def recover(stream_dir: Path) -> list[WaitingSegment]:
    """Finish what a dead encoder left, if nobody records or encodes any more; returns the segments made.

    Raises OSError, for example if the disk is full: then it can be done again.
    """
    parts = find_parts(stream_dir)
    if not parts:
        return []
    with locked(stream_dir / ENCODER_LOCK) as held:
        # An encoder that works does it itself; a recorder that lives may start another.
        if not held or is_locked(stream_dir / WRITER_LOCK):
            return []
        # Only the last part of each camera was open; those before it say themselves how they end.
        newest = {path.parent: path for path in parts}
        for path in newest.values():
            _name_lost_end(stream_dir, path)
        return [segment for path in parts if (segment := finish_part(path))]


def _name_lost_end(stream_dir: Path, path: Path) -> None:
    """Write into a part that more frames followed, and that nobody knows whether they had pictures."""
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
        # From the last picture on: hours of frames before it need no look.
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
