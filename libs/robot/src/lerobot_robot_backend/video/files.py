"""Finished video segments of a stream, on their way to the server: `<stream dir>/video/<camera_key>/`.

NNNNNN.part         being recorded, or left by a dead encoder, see `part_file` and `finish`
NNNNNN.mp4          the segment
NNNNNN.json         its description, a `teleop_schema.files.VideoFile`; with it, the segment is finished
NNNNNN.stored.json  the server's receipt; NNNNNN.json stays, so that the segment can be sent again
NNNNNN.damaged      a part that could not be made into an mp4
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.disk.opening import read_small
from teleop_schema.errors import BadInput
from teleop_schema.files import Receipt, VideoFile
from teleop_schema.identifiers import check_camera_key
from teleop_schema.messages import Event
from teleop_schema.session import Camera, SessionDescription

from lerobot_robot_backend.spool.age import age_s, running_s, stamp
from lerobot_robot_backend.spool.durable import NOTE_BYTES, replace_file, sync_directory
from lerobot_robot_backend.video.choice import RGB, SINGLE, Video
from lerobot_robot_backend.video.part_file import read_part

# The first page of the ring has rows for 31.
MAX_CAMERAS = 16
VIDEO_DIR = "video"
ENCODER_LOCK = "encoder.lock"
ENCODER_LOG = "encoder.log"
VIDEO_SHIPPER_LOCK = "video-shipper.lock"
STORED_SUFFIX = ".stored.json"
NO_PICTURE = "the recording was killed before a picture of it was recorded"
# <spool>/<robot>/<stream>/video/<camera>/<segment>
_SPOOL_ABOVE = 4
_NUMBERED = re.compile(r"(\d{6,})\.[a-z.]+")

log = logging.getLogger("lerobot_robot_backend.video")


@dataclass(frozen=True)
class WaitingSegment:
    """A finished segment that the server lacks."""

    path: Path
    video: VideoFile


@dataclass(frozen=True)
class VideoProgress:
    """Finished segments: how many the server has, how many it lacks, and the bytes of these."""

    stored: int
    waiting: int
    waiting_bytes: int


def choose_cameras(cameras: Mapping[str, Camera], video: Video) -> tuple[dict[str, Camera], dict[str, str]]:
    """The cameras that are recorded, and why the others are not."""
    recorded: dict[str, Camera] = {}
    left_out: dict[str, str] = {}
    for name, camera in cameras.items():
        if video == "off":
            left_out[name] = "video is off"
        elif camera.channels not in (RGB, SINGLE):
            left_out[name] = (
                f"its pictures have {camera.channels} values per pixel, which is neither RGB nor depth"
            )
        elif camera.channels == SINGLE and not _can_encode_depth():
            left_out[name] = "it gives depth, but FFmpeg on this machine lacks 12-bit x265 to encode it"
        elif len(recorded) == MAX_CAMERAS:
            left_out[name] = f"at most {MAX_CAMERAS} cameras are recorded"
        else:
            try:
                recorded[check_camera_key(name)] = camera
            except BadInput as error:
                left_out[name] = str(error)
    return recorded, left_out


def _can_encode_depth() -> bool:
    # loads FFmpeg, which sessions without depth do not need
    from lerobot_robot_backend.video.codec import can_encode_depth

    return can_encode_depth()


def without_unrecorded(
    session: SessionDescription, video: Video
) -> tuple[SessionDescription, dict[str, str]]:
    """The session with the cameras that are recorded; its host says why the others are not."""
    recorded, left_out = choose_cameras(session.cameras, video)
    if not left_out:
        return session, left_out
    if video != "off":  # because this is the user's own choice
        for name, why in left_out.items():
            log.warning("backend: camera %s is not recorded: %s", name, why)
    host = session.host | {"cameras_not_recorded": dict(left_out)}
    return msgspec.structs.replace(session, cameras=recorded, host=host), left_out


def recorded_cameras(session: SessionDescription) -> list[str]:
    """Names of the session's cameras that are recorded; streams of an earlier version also name others."""
    return [*choose_cameras(session.cameras, "high")[0]]


def camera_dir(stream_dir: Path, camera_key: str) -> Path:
    """The folder of one camera's segments."""
    return stream_dir / VIDEO_DIR / camera_key


def next_chunk_index(folder: Path) -> int:
    """The number of this camera's next segment."""
    numbers = [int(match[1]) for name in os.listdir(folder) if (match := _NUMBERED.fullmatch(name))]
    return max(numbers, default=-1) + 1


def part_path(folder: Path, chunk_index: int) -> Path:
    """Where segment `chunk_index` is recorded."""
    return folder / f"{chunk_index:06d}.part"


def find_parts(stream_dir: Path) -> list[Path]:
    """Segments that are not finished, in order for each camera."""
    found = [path for path in _files(stream_dir) if path.suffix == ".part" and _NUMBERED.fullmatch(path.name)]
    return sorted(found, key=lambda path: (path.parent, int(path.stem)))


def finished_segments(stream_dir: Path) -> Iterator[WaitingSegment]:
    """The finished segments that the server lacks, oldest first; each is read when its turn comes."""
    for sidecar in _unstored(stream_dir):
        try:
            video = msgspec.json.decode(read_small(sidecar, NOTE_BYTES), type=VideoFile)
        except FileNotFoundError:
            continue  # another process has sent it
        except (OSError, *DECODE_ERRORS) as error:
            log.error("%s can't be read: %s; it is kept", sidecar, error)
            continue
        yield WaitingSegment(sidecar.with_suffix(".mp4"), video)


def mark_stored(segment: WaitingSegment, receipt: Receipt) -> None:
    """Store durably that the server has the segment; from now on it may be pruned."""
    sidecar = segment.path.with_suffix(".json")
    stored = _stored_path(sidecar)
    replace_file(stored, msgspec.json.encode(receipt), durable=True)
    # A receipt that was not stamped is as old as the next look at it.
    stamp(stored, running_s(segment.path.parents[_SPOOL_ABOVE]))


def stored_segments(stream_dir: Path) -> dict[str, list[int]]:
    """Camera -> ascending numbers of the segments that the server has confirmed and that are still here.

    Segments whose sidecar was removed by an earlier release can't be sent again, so they are not included.

    Raises OSError.
    """
    found = {}
    for folder, names in _camera_names(stream_dir).items():
        receipts = [name.removesuffix(STORED_SUFFIX) for name in names if name.endswith(STORED_SUFFIX)]
        numbers = [int(n) for n in receipts if {f"{n}.mp4", f"{n}.json"} <= names]
        if numbers:
            found[folder.name] = sorted(numbers)
    return found


def forget_stored(stream_dir: Path, camera_key: str, chunk_index: int) -> bool:
    """Mark the segment for sending, because the server no longer has what it confirmed;
    returns whether it did.

    Raises OSError.
    """
    part = part_path(camera_dir(stream_dir, camera_key), chunk_index)
    if not part.with_suffix(".mp4").exists():
        return False
    # Without its receipt a segment is one that was never sent.
    part.with_suffix(STORED_SUFFIX).unlink(missing_ok=True)
    sync_directory(part.parent)
    return True


def count_segments(stream_dir: Path, camera_key: str) -> tuple[int, int]:
    """How many segments a camera has had, and how many of them the server has: also of those that the spool
    has removed, which it does only with stored ones. Its last receipt stays, and tells their number."""
    names = _camera_names(stream_dir).get(camera_dir(stream_dir, camera_key), set())
    numbers = {name: int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))}
    last = max((number for name, number in numbers.items() if name.endswith(".json")), default=-1)
    damaged = sum(number < last for name, number in numbers.items() if name.endswith(".damaged"))
    total = last + 1 - damaged
    unstored = sum(path.parent.name == camera_key for path in _unstored(stream_dir))
    return total, total - unstored


def how_far(stream_dir: Path) -> VideoProgress:
    """How far the stream's finished segments are. Raises OSError."""
    stored = sum(path.name.endswith(STORED_SUFFIX) for path in _files(stream_dir))
    sizes = []
    for sidecar in _unstored(stream_dir):
        with suppress(FileNotFoundError):  # another process has sent it
            sizes.append(sidecar.with_suffix(".mp4").stat().st_size)
    return VideoProgress(stored, len(sizes), sum(sizes))


def has_unstored_video(stream_dir: Path) -> bool:
    """Whether anything of the stream's video is not on the server yet. Raises OSError."""
    return bool(find_parts(stream_dir)) or bool(_unstored(stream_dir))


def holds_video(stream_dir: Path) -> bool:
    """Whether the stream's folder has pictures, stored or not. Raises OSError."""
    return any(path.suffix in (".part", ".mp4") for path in _files(stream_dir))


def without_video(stream_dir: Path, cameras: Iterable[str], frame_index: int) -> tuple[Event, ...]:
    """Events, before `frame_index`, for the cameras of which no picture ever got into a file.

    For a stream that nobody records or encodes any more. Raises OSError.
    """
    files = _files(stream_dir)
    shown = {path.parent.name for path in files if path.parent.name in cameras and _shows(path)}
    silent = sorted(set(cameras) - shown)
    return tuple(
        Event(kind="no_video", frame_index=frame_index, camera=name, note=NO_PICTURE) for name in silent
    )


def _shows(path: Path) -> bool:
    """Whether the file proves that there is a picture, or was one before the server had it."""
    if not _NUMBERED.fullmatch(path.name) or path.suffix == ".damaged":
        return False
    try:
        return path.suffix != ".part" or bool(read_part(path).numbers)
    except OSError:
        return True  # renamed or removed meanwhile, or a disk error: it may contain pictures


def make_camera_dir(stream_dir: Path, camera_key: str) -> Path:
    """The camera's folder, created durably. Raises OSError."""
    folder = camera_dir(stream_dir, camera_key)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_directory(folder.parent)
    sync_directory(stream_dir)
    return folder


def prune_video(stream_dir: Path, keep_s: float, now_s: float) -> None:
    """Remove segments that the server has had for this long. Raises OSError.

    now_s  the time by `running_s`
    The last receipt of each camera stays, so that numbering continues after it.
    """
    receipts = sorted(path for path in _files(stream_dir) if path.name.endswith(STORED_SUFFIX))
    last = {path.parent: path for path in receipts}
    for receipt in receipts:
        try:
            young = age_s(receipt, now_s) < keep_s
        except FileNotFoundError:
            continue  # the segment must be sent again
        if young:
            continue
        number = receipt.name.removesuffix(STORED_SUFFIX)
        for suffix in (".mp4", ".json"):
            receipt.with_name(f"{number}{suffix}").unlink(missing_ok=True)
        if receipt is not last[receipt.parent]:
            receipt.unlink()


def remove_video(stream_dir: Path) -> None:
    """Remove all of the stream's video files and their folders. Raises OSError."""
    video = stream_dir / VIDEO_DIR
    for path in _files(stream_dir):
        if _NUMBERED.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for folder in (*video.glob("*"), video):
        with suppress(OSError):  # it contains something else, which is not ours to remove
            folder.rmdir()


def _unstored(stream_dir: Path) -> list[Path]:
    """Sidecars of what the server lacks, sorted by number, then by camera."""
    found = []
    for folder, names in _camera_names(stream_dir).items():
        for name in names:
            number = name.removesuffix(".json")
            # Not a receipt, and none beside it.
            if number.isdecimal() and name != number and number + STORED_SUFFIX not in names:
                found.append((int(number), folder / name))
    return [path for _, path in sorted(found)]


def _files(stream_dir: Path) -> list[Path]:
    """The files in the cameras' folders. Unlike `glob`, raises OSError, so that no error looks like an empty
    folder."""
    return [folder / name for folder, names in _camera_names(stream_dir).items() for name in names]


def _camera_names(stream_dir: Path) -> dict[Path, set[str]]:
    """The names in each camera's folder. Raises OSError."""
    found = {}
    try:
        with os.scandir(stream_dir / VIDEO_DIR) as entries:
            folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return {}
    for folder in folders:
        with suppress(FileNotFoundError):  # all of it was old enough to be removed
            found[folder] = set(os.listdir(folder))
    return found


def _stored_path(sidecar: Path) -> Path:
    return sidecar.with_suffix(STORED_SUFFIX)
