import io
import subprocess
import sys

import av
import numpy as np
import pytest
from lerobot_robot_virtual.arm import REST, leader_positions
from lerobot_robot_virtual.scene import VIEWS, read_frame_counter, render
from teleop_testing.waiting import PATIENCE_S


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (240, 320), (480, 640), (721, 1283)])
def test_frame_counter_is_read_back(view, height, width):
    """The number drawn into a picture of any size is read from it; it counts modulo 2**24."""
    for number in (0, 1, 255, 4711, 2**24 - 1):
        picture = render(view, REST, number, height=height, width=width)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert read_frame_counter(picture) == number
    assert read_frame_counter(render(view, REST, 2**24 + 7, height=height, width=width)) == 7


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("codec", "options"), [("libx264", {"crf": "35"}), ("libsvtav1", {"crf": "45"})])
def test_frame_counter_survives_compression(view, codec, options):
    """The number is read from every frame of a video that is compressed harder than LeRobot compresses."""
    file = io.BytesIO()
    count = 40
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = 120, 160, "yuv420p"
        for number in range(count):
            picture = render(view, leader_positions(number / 30), number * 3001, height=120, width=160)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [read_frame_counter(picture) for picture in pictures] == [n * 3001 for n in range(count)]


def test_picture_shows_the_arm_moving():
    """Two moments differ in more than the counter; the two cameras see different things."""
    before, after = (render("front", leader_positions(t), 0, height=240, width=320) for t in (0.0, 1.0))
    assert np.count_nonzero((before != after).any(axis=2)) > 500
    wrist = render("wrist", leader_positions(0.0), 0, height=240, width=320)
    assert np.count_nonzero((before != wrist).any(axis=2)) > 320 * 240 / 2


@pytest.mark.parametrize("brightness", [0, 255])
def test_picture_without_counter_is_refused(brightness):
    """A black or white picture is not taken for frame 0."""
    with pytest.raises(ValueError, match="no readable frame counter"):
        read_frame_counter(np.full((240, 320, 3), brightness, np.uint8))


@pytest.mark.parametrize(
    ("view", "height", "width", "named"), [("back", 240, 320, "'back'"), ("front", 47, 64, "64 x 48")]
)
def test_impossible_pictures_are_refused(view, height, width, named):
    """What can't be drawn is named."""
    with pytest.raises(ValueError, match=named):
        render(view, REST, 0, height=height, width=width)


@pytest.mark.parametrize("part", ["", ".arm", ".scene"])
def test_import_needs_no_lerobot(part):
    """The demo runs where LeRobot is not installed."""
    code = f"import sys, lerobot_robot_virtual{part}; print({{'lerobot', 'torch'}} & set(sys.modules))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=PATIENCE_S)
    assert output.strip() == "set()"
