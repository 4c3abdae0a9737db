"""Depth on its way into segments, with the real encoder process; LeRobot says what must come out."""

import av
import msgspec
import numpy as np
import pytest
from lerobot.datasets.depth_utils import quantize_depth
from lerobot_robot_backend.video import codec as video_codec
from lerobot_robot_backend.video.files import ENCODER_LOG, finished_segments
from teleop_schema.session import Camera
from teleop_testing.robots.segments import no_video
from teleop_testing.waiting import PATIENCE_S

HEIGHT, WIDTH = 61, 90
CAMERAS = {"front_depth": Camera(HEIGHT, WIDTH, 30.0, channels=1)}
JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}


def depth(number: int, dtype: type = np.uint16) -> np.ndarray:
    """(HEIGHT, WIDTH, 1): noise around a slope that goes beyond what LeRobot tells apart."""
    noise = np.random.default_rng(number).normal(0, 20, (HEIGHT, WIDTH, 1))
    mm = (np.linspace(0, 11_000, WIDTH)[:, None] + noise).clip(0, 65_535)
    return mm.astype(dtype) if dtype is np.uint16 else (mm / 1000).astype(dtype)


def codes(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert {frame.format.name for frame in frames} == {"gray12le"}
        assert all(frame.key_frame for frame in frames)
        return [frame.to_ndarray(format="gray12le") for frame in frames]


def finish(client) -> None:
    client.close()
    assert client._video.wait_encoded(PATIENCE_S), (client.stream_dir / ENCODER_LOG).read_text()


async def test_depth_is_recorded_without_loss(make_client):
    """Every picture as LeRobot quantises it, to the last code, of odd sizes and not in one piece too; a
    camera that goes over to metres begins a segment, and each segment says in which unit it was."""
    client = make_client(cameras=CAMERAS)
    taken = [depth(0), depth(1)[..., 0], np.asfortranarray(depth(2)), depth(3, np.float32)]
    for picture in taken:
        client.log(JOINTS | {"front_depth": picture}, JOINTS)
    finish(client)
    segments = list(finished_segments(client.stream_dir))
    assert [segment.video.depth_unit for segment in segments] == ["mm", "m"]
    assert [(each.video.height, each.video.width) for each in segments] == [(HEIGHT, WIDTH)] * 2
    recorded = [picture for segment in segments for picture in codes(segment.path)]
    np.testing.assert_array_equal(recorded, [quantize_depth(each, video_backend=None) for each in taken])
    counts = client.pictures()["front_depth"]
    assert (counts.recorded, counts.dropped) == (4, 0)
    assert not no_video(client.stream_dir)


async def test_the_announcement_of_colours_is_as_it_was(make_client):
    """A server that does not know depth yet takes it."""
    client = make_client(cameras={"front": Camera(48, 64)})
    client.log(JOINTS | {"front": np.zeros((48, 64, 3), np.uint8)}, JOINTS)
    finish(client)
    (segment,) = finished_segments(client.stream_dir)
    assert "depth_unit" not in msgspec.to_builtins(segment.video)


@pytest.mark.parametrize(
    ("channels", "picture", "why"),
    [
        (1, np.zeros((HEIGHT, WIDTH, 1), np.uint8), "something other than depth (uint16 in mm or"),
        (3, np.zeros((HEIGHT, WIDTH, 3), np.float32), "something other than an 8-bit RGB picture"),
        (3, depth(0), "something other than an 8-bit RGB picture"),
        (1, None, "the robot gave no picture for it"),
    ],
    ids=["grayscale", "floats", "depth of a colour camera", "none"],
)
async def test_camera_without_a_picture_that_can_be_recorded(make_client, channels, picture, why):
    """It is told to the server at the end, so that no export waits for its video; all else is recorded."""
    cameras = CAMERAS | {"strange": Camera(HEIGHT, WIDTH, channels=channels)}
    client = make_client(cameras=cameras)
    for number in range(2):
        client.log(JOINTS | {"strange": picture, "front_depth": depth(number)}, JOINTS)
    finish(client)
    assert client.cameras_not_recorded == no_video(client.stream_dir)
    assert client.cameras_not_recorded.keys() == {"strange"}
    assert why in client.cameras_not_recorded["strange"]
    assert client.pictures()["front_depth"].recorded == 2


async def test_machine_that_can_not_encode_depth_says_so_from_the_start(make_client, monkeypatch):
    """An FFmpeg without x265: the session has its other cameras only."""
    monkeypatch.setattr(video_codec, "can_encode_depth", lambda: False)
    with make_client(cameras=CAMERAS) as client:
        client.log(JOINTS | {"front_depth": depth(0)}, JOINTS)
    assert "lacks 12-bit x265" in client.cameras_not_recorded["front_depth"]
    assert not client.pictures()
