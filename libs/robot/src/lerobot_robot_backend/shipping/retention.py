"""Removes segments from the spool that the server has had for a day. Unsent segments always stay."""

import os
from contextlib import suppress
from pathlib import Path

from teleop_schema.disk.opening import open_regular

from lerobot_robot_backend.spool.age import age_s, running_s, stamp
from lerobot_robot_backend.spool.erased import read_erased
from lerobot_robot_backend.spool.segment import (
    HEADER_BYTES,
    PREPARED_SUFFIXES,
    DamagedSegment,
    SegmentHeader,
    find_segments,
)
from lerobot_robot_backend.spool.stream import (
    ACKED_FILE,
    ADDRESS_FILE,
    SESSION_FILE,
    SHIPPER_LOCK,
    SHIPPER_LOG,
    VIDEO_TROUBLE,
    WRITER_LOCK,
    WRITER_STATE,
    find_streams,
    read_progress,
)
from lerobot_robot_backend.video.files import (
    ENCODER_LOCK,
    ENCODER_LOG,
    VIDEO_SHIPPER_LOCK,
    holds_video,
    prune_video,
    remove_video,
)

# A day is what an admin may need to restore a lost database; robots then send what is missing in it.
KEEP_S = 24 * 3600.0
# An acknowledged segment is read-only, and its age is that of its acknowledgement.
_SEALED_MODE = 0o400
_UNSEALED_MODE = 0o600


def seal_acknowledged(stream_dir: Path, acked: int, *, ended: bool) -> int:
    """Seal the segments whose frames are all below `acked`; returns how many were sealed now."""
    segments = list(find_segments(stream_dir).values())
    sealed, now_s = 0, running_s(stream_dir.parent.parent)
    for position, path in enumerate(segments):
        following = segments[position + 1] if position + 1 < len(segments) else None
        # The last segment has no successor that would tell where it ends.
        done = ended if following is None else _first_index(following) <= acked
        if done and not _is_sealed(path):
            stamp(path, now_s)
            os.chmod(path, _SEALED_MODE)
            sealed += 1
    return sealed


def unseal_unacknowledged(stream_dir: Path, acked: int) -> None:
    """Keep segments that the server has confirmed and lost: all but those below `acked`.

    Raises OSError.
    """
    segments = list(find_segments(stream_dir).values())
    for path, following in zip(segments, [*segments[1:], None], strict=True):
        if (following is None or _first_index(following) > acked) and _is_sealed(path):
            os.chmod(path, _UNSEALED_MODE)


def prune_spool(spool_dir: Path, *, keep_s: float = KEEP_S) -> None:
    """Remove what every stream of the spool no longer needs."""
    for stream_dir in list(find_streams(spool_dir)):
        with suppress(OSError):
            prune_stream(stream_dir, keep_s=keep_s)


def prune_stream(stream_dir: Path, *, keep_s: float = KEEP_S) -> None:
    """Remove segments sealed for longer than `keep_s`, video stored as long ago, and at the end everything.

    The folder of an ended stream goes with its last segment, once all of its video is stored too.

    Nothing of an erased one goes: its only copy is here, and a person was told so.

    Raises OSError if the disk refuses.
    """
    if read_erased(stream_dir) is not None:
        return
    progress = read_progress(stream_dir)
    now_s = running_s(stream_dir.parent.parent)
    # A shipper that was killed after its last acknowledgement has not sealed them.
    seal_acknowledged(stream_dir, progress.next, ended=progress.ended)
    prune_video(stream_dir, keep_s, now_s)
    sealed = [path for path in find_segments(stream_dir).values() if _is_sealed(path)]
    # Asks for every age, so that the age of all segments without one begins at the same time.
    old = {path for path in sealed if age_s(path, now_s) >= keep_s}
    for path in find_segments(stream_dir).values():
        # In order, so that what stays has no hole; and the folder with its description stays with it.
        if path not in old:
            return
        path.unlink(missing_ok=True)
    if not progress.ended or holds_video(stream_dir):
        return
    remove_video(stream_dir)
    leftovers = [path for suffix in PREPARED_SUFFIXES for path in stream_dir.glob(f"*{suffix}")]
    locks = (WRITER_LOCK, SHIPPER_LOCK, VIDEO_SHIPPER_LOCK, ENCODER_LOCK)
    # The description goes last: if this is killed, a shipper still finds the stream, asks, and goes on.
    names = (ACKED_FILE, ADDRESS_FILE, WRITER_STATE, VIDEO_TROUBLE, *locks, SHIPPER_LOG, ENCODER_LOG)
    for path in (*leftovers, *(stream_dir / name for name in (*names, SESSION_FILE))):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it contains something else, which is not ours to remove
        stream_dir.rmdir()


def _is_sealed(path: Path) -> bool:
    return path.stat().st_mode & 0o200 == 0


def _first_index(path: Path) -> int:
    try:
        with open_regular(path) as file:
            return SegmentHeader.decode(file.read(HEADER_BYTES)).first_index
    except DamagedSegment:
        return 2**63  # above every index: what lies before a damaged segment is never taken for confirmed
