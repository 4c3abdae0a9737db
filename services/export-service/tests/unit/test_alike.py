"""What sessions must share to be one dataset."""

import pytest
from teleop_dataset.v3.info import VideoFeature
from teleop_export.errors import CameraMissing, SessionsDiffer, VideoDiffers, VideoUnfinished
from teleop_export.sessions.alike import check_alike, choose_cameras
from teleop_export.sessions.recorded import CameraVideo, Session


def footage(*, height=48, width=64, codec="h264", pix_fmt="yuv420p", depth_unit=None):
    return CameraVideo(
        height=height, width=width, codec=codec, pix_fmt=pix_fmt, fps=30.0, chunks=(1,), pictures=3,
        size_bytes=9, gaps=(), depth_unit=depth_unit,
    )  # fmt: skip


def session(number=1, **changes):
    values = {
        "id": number, "robot_id": "robot_A", "robot_type": "so101", "fps": 30.0, "task": None,
        "state_names": ("a",), "action_names": ("a",), "status": "complete", "watermark": 3, "committed": 3,
        "gaps": (),
    }  # fmt: skip
    return Session(**values | changes)


def choose(*sessions, wanted=None, video_unfinished=False):
    return choose_cameras(sessions, wanted, video_unfinished=video_unfinished)


def test_all_cameras_unless_some_are_named():
    """In the order of their names, or in that in which they were asked for."""
    recorded = session(footage={"wrist": footage(), "front": footage(height=96)})
    assert choose(recorded) == (
        VideoFeature("front", 96, 64, "h264", "yuv420p"),
        VideoFeature("wrist", 48, 64, "h264", "yuv420p"),
    )
    assert [camera.name for camera in choose(recorded, wanted=("wrist", "front"))] == ["wrist", "front"]
    assert choose(recorded, wanted=()) == ()


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "made"),
    [
        ("av1", "yuv420p", ("av1", "yuv420p")),
        ("h264", "gbrp", ("h264", "gbrp")),
        ("vp9", "yuv444p", ("h264", "yuv420p")),
        ("hevc", "nv12", ("hevc", "yuv420p")),
    ],
)
def test_video_stays_what_it_is_where_lerobot_reads_it(codec, pix_fmt, made):
    """Other kinds become the first of each list."""
    (camera,) = choose(session(footage={"front": footage(codec=codec, pix_fmt=pix_fmt)}))
    assert (camera.codec, camera.pix_fmt) == made


def test_depth_is_what_lerobot_makes_of_depth():
    """Whatever the first session's unit is, the dataset tells it."""
    (camera,) = choose(session(footage={"front": footage(codec="hevc", pix_fmt="gray12le", depth_unit="mm")}))
    assert camera == VideoFeature("front", 48, 64, "hevc", "gray12le", "mm")


def test_sizes_must_agree():
    """Both sizes and both sessions are named."""
    sessions = session(1, footage={"front": footage()}), session(2, footage={"front": footage(width=128)})
    with pytest.raises(VideoDiffers, match="front has 64x48 in session 1 and 128x48 in session 2"):
        choose(*sessions)


def test_depth_is_not_mixed_with_colours():
    """Also if the pictures have one size."""
    sessions = (
        session(1, footage={"front": footage(depth_unit="m")}),
        session(2, footage={"front": footage()}),
    )
    with pytest.raises(VideoDiffers, match="front gives depth in session 1 and colours in session 2"):
        choose(*sessions)


@pytest.mark.parametrize(
    ("there", "told"), [({"wrist": footage()}, "camera front, only of wrist$"), ({}, "camera front$")]
)
def test_every_session_has_every_camera(there, told):
    """What the session has is told."""
    with pytest.raises(CameraMissing, match=f"session 2 has no video of {told}"):
        choose(session(1, footage={"front": footage()}), session(2, footage=there), wanted=("front",))


def test_video_that_is_awaited_is_waited_for():
    """Unless nobody wants that camera, or what is there is enough."""
    recorded = session(cameras=("front", "wrist"), footage={"wrist": footage()})
    with pytest.raises(VideoUnfinished, match="session 1 was recorded with camera front"):
        choose(recorded)
    assert [camera.name for camera in choose(recorded, wanted=("wrist",))] == ["wrist"]
    assert [camera.name for camera in choose(recorded, video_unfinished=True)] == ["wrist"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("robot_type", "lekiwi", "differ in robot_type: so101 and lekiwi"),
        ("state_names", ("a", "b"), r"differ in state_names: \[a\] and \[a, b\]"),
        ("action_names", ("c",), r"differ in action_names: \[a\] and \[c\]"),
    ],
)
def test_robots_must_be_alike(name, value, told):
    """The first two sessions that differ are named, with the field."""
    check_alike([session(1), session(2)])
    with pytest.raises(SessionsDiffer, match=f"sessions 1 and 3 {told}") as refused:
        check_alike([session(1), session(2), session(3, **{name: value})])
    assert refused.value.field == name
