"""What several sessions must have in common to be one dataset. Pure."""

from collections.abc import Sequence

from teleop_dataset.v3.info import VideoFeature
from teleop_schema.depth import DEPTH_CODEC, DEPTH_PIX_FMT

from teleop_export.errors import CameraMissing, SessionsDiffer, VideoDiffers, VideoUnfinished
from teleop_export.sessions.recorded import CameraVideo, Session

# Kinds of video that LeRobot reads, and that the encoders here can make; others become the first of each.
CODECS = ("h264", "hevc", "av1")
PIX_FMTS = ("yuv420p", "yuv422p", "yuv444p", "gbrp")


def choose_cameras(
    sessions: Sequence[Session], wanted: Sequence[str] | None, *, video_unfinished: bool
) -> tuple[VideoFeature, ...]:
    """The cameras of the dataset, each with the kind of video that its first session has.

    wanted            as asked for; None: every camera that any of the sessions has video of
    video_unfinished  take what has arrived, even if a camera that a robot had has none yet
    raises            VideoUnfinished, CameraMissing if a session has no video of one, VideoDiffers if a
                      camera's pictures differ in size
    """
    if not video_unfinished:
        for session in sessions:
            _check_arrived(session, wanted)
    names = wanted
    if names is None:
        names = sorted({name for session in sessions for name in session.footage})
    return tuple(_camera(sessions, name) for name in names)


def check_alike(sessions: Sequence[Session]) -> None:
    """Raise SessionsDiffer for sessions whose robots can't share a dataset."""
    first = sessions[0]
    for other in sessions[1:]:
        for name in ("robot_type", "state_names", "action_names"):
            ours, theirs = getattr(first, name), getattr(other, name)
            if ours != theirs:
                raise SessionsDiffer(
                    f"sessions {first.id} and {other.id} differ in {name}: {_told(ours)} and {_told(theirs)}",
                    field=name,
                    hint="export them as two datasets",
                )


def _camera(sessions: Sequence[Session], name: str) -> VideoFeature:
    for session in sessions:
        if name not in session.footage:
            raise _missing(session, name)
    first, *others = sessions
    like = first.footage[name]
    for other in others:
        footage = other.footage[name]
        if (footage.height, footage.width) != (like.height, like.width):
            raise VideoDiffers(
                f"camera {name} has {_size(like)} in session {first.id} and {_size(footage)} in session "
                f"{other.id}",
                field="cameras",
                hint="export them as two datasets, or leave the camera out by naming the others in `cameras`",
            )
        if bool(footage.depth_unit) != bool(like.depth_unit):
            raise VideoDiffers(
                f"camera {name} gives {_what(like)} in session {first.id} and {_what(footage)} in session "
                f"{other.id}",
                field="cameras",
                hint="export them as two datasets, or leave the camera out by naming the others in `cameras`",
            )
    if like.depth_unit:
        return VideoFeature(name, like.height, like.width, DEPTH_CODEC, DEPTH_PIX_FMT, like.depth_unit)
    codec = like.codec if like.codec in CODECS else CODECS[0]
    pix_fmt = like.pix_fmt if like.pix_fmt in PIX_FMTS and codec == like.codec else PIX_FMTS[0]
    return VideoFeature(name, like.height, like.width, codec, pix_fmt)


def _check_arrived(session: Session, wanted: Sequence[str] | None) -> None:
    """A robot's video may be seconds behind its samples: no dataset lacks a camera because of that."""
    for name in session.cameras:
        if name not in session.footage and (wanted is None or name in wanted):
            raise VideoUnfinished(
                f"session {session.id} was recorded with camera {name}, but no usable video "
                "of it has arrived",
                field="cameras",
                hint="wait until its video has arrived; if it has, see why it can't be used "
                f"(GET /sessions/{session.id}/videos); if none was recorded, name the cameras that have "
                'video in `cameras` (`"cameras": []`: joints only); or set `"include_unfinished": true` to '
                "export what is there",
            )


def _missing(session: Session, name: str) -> CameraMissing:
    has = ", ".join(sorted(session.footage))
    return CameraMissing(
        f"session {session.id} has no video of camera {name}" + (f", only of {has}" if has else ""),
        field="cameras",
        hint=('name only cameras that all of the sessions have in `cameras` (`"cameras": []`: joints only)'),
    )


def _what(footage: CameraVideo) -> str:
    return "depth" if footage.depth_unit else "colours"


def _size(footage: CameraVideo) -> str:
    return f"{footage.width}x{footage.height}"


def _told(value: object) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)
