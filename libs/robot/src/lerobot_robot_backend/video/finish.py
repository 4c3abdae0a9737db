"""Turns what an encoder has recorded into a finished segment."""

import hashlib
import logging
import os
from pathlib import Path

import msgspec
from teleop_schema.disk.opening import open_regular
from teleop_schema.files import FrameTimes, VideoFile

from lerobot_robot_backend.spool.durable import replace_file
from lerobot_robot_backend.video.codec import EncodingFailed, write_mp4
from lerobot_robot_backend.video.files import WaitingSegment
from lerobot_robot_backend.video.part_file import PartPictures, read_part

log = logging.getLogger("lerobot_robot_backend.video")


def finish_part(path: Path) -> WaitingSegment | None:
    """Turn a part that nobody writes any more into a finished segment; None if it has no picture.

    If it is interrupted, at any point, it can be done again. Raises OSError, for example if the disk is full.
    """
    part = read_part(path)
    if part.head is None or not part.numbers:
        for dropped in part.dropped:
            log.error("%s: nothing was recorded: %s", path, dropped.reason)
        path.unlink()
        return None
    target, temporary = path.with_suffix(".mp4"), path.with_suffix(".new")
    try:
        with open_regular(path) as file:
            depth = part.head.depth_unit is not None
            write_mp4(temporary, PartPictures(file, part), len(part.numbers), part.head.fps, depth=depth)
    except EncodingFailed as error:
        # The next attempt would fail at the same bytes, and hold up what was recorded after them.
        log.error("%s: %s; it is kept as %s.damaged", path, error, path.stem)
        temporary.unlink(missing_ok=True)
        path.rename(path.with_suffix(".damaged"))
        return None
    # The video gets its name once it is on the disk, its notes follow, and the part goes last: a power cut
    # leaves a part, which is finished again, or a segment with all that belongs to it.
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
    return WaitingSegment(target, video)
