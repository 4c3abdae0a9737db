"""Exported mp4 files in players that know nothing of LeRobot: each picture is in its place."""

import base64
import shutil
import subprocess

import av
import cv2
import numpy as np
import pytest
from lerobot_robot_virtual.scene import read_frame_counter
from playwright.sync_api import sync_playwright
from teleop_testing.waiting import PATIENCE_S

HEIGHT, WIDTH = 48, 64
FRAMES = 240
LOOP_FPS = 60
# Any complaint of the decoder or the demuxer is an error.
STRICT = ("-v", "error", "-xerror", "-err_detect", "explode")
# Without a sandbox, because tests run as root in CI; without calls to the browser's makers.
BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
SHOW = """async ([mp4, times]) => {
    const video = document.createElement("video");
    const event = name => new Promise((resolve, reject) => {
        video.addEventListener(name, resolve, {once: true});
        video.addEventListener("error", () => reject(video.error.message), {once: true});
    });
    const loaded = event("loadeddata");
    video.src = `data:video/mp4;base64,${mp4}`;
    await loaded;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    const shown = [];
    for (const time of times) {
        const presented = new Promise(resolve => video.requestVideoFrameCallback(resolve));
        const seeked = event("seeked");
        video.currentTime = time;
        await Promise.all([seeked, presented]);
        context.drawImage(video, 0, 0);
        shown.push([...context.getImageData(0, 0, canvas.width, canvas.height).data]);
    }
    return shown;
}"""


@pytest.fixture(scope="module")
def files(exporter):
    """Per rate of the rows: the mp4, and the counter that each row's picture must have.

    The camera has 30 pictures a second: at 60 each is repeated, at 30 all are shown, at 15 every second one.
    """
    session = exporter.record(FRAMES, [(0, 100, "pick", None), (100, FRAMES, "pick", None)])
    video = exporter.film(session, FRAMES, "front", segment=17, height=HEIGHT, width=WIDTH)
    found = {}
    for fps in (60, 30, 15):
        root = exporter.export(session, f"played-{fps}", fps=fps)
        (path,) = root.glob("videos/*/*/*.mp4")
        found[fps] = path, [video.shown(iteration) for iteration in range(0, FRAMES, LOOP_FPS // fps)]
    return found


def play(path, *seek, mode=("-fps_mode", "passthrough")):
    """The counters of what ffmpeg shows; it must not complain.

    mode  (): as it shows a video that nothing else is asked for
    """
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is missing: apt-get install ffmpeg")
    words = [program, "-nostdin", *STRICT, *seek[:2], "-i", str(path), *seek[2:]]
    words += ["-map", "0:v:0", *mode, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
    return [read_frame_counter(picture) for picture in pictures]


@pytest.mark.parametrize("fps", [60, 30, 15])
def test_ffmpeg_plays_every_picture(files, fps):
    """From front to back, repeated and skipped ones as the rows have them."""
    path, expected = files[fps]
    assert play(path) == expected


def test_a_slow_camera_has_a_picture_per_row_for_everybody(exporter):
    """What a camera of 15 pictures a second declares in them is not the rate of the file: FFmpeg 5.1, left to
    itself, showed the first one three times and all others a row late."""
    session = exporter.record(FRAMES, [(0, FRAMES, "pick", None)], fps=30.0)
    video = exporter.film(session, FRAMES, "front", loop_fps=30.0, fps=15, height=HEIGHT, width=WIDTH)
    (path,) = exporter.export(session, "slow-camera", fps=30).glob("videos/*/*/*.mp4")
    expected = [video.shown(iteration) for iteration in range(FRAMES)]
    assert play(path, mode=()) == expected
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [read_frame_counter(picture) for picture in shown] == expected
    capture = cv2.VideoCapture(str(path))
    shown = [capture.read()[1][..., ::-1] for _ in expected]
    assert not capture.read()[0]
    assert [read_frame_counter(picture) for picture in shown] == expected


@pytest.mark.parametrize("fps", [60, 15])
def test_ffmpeg_seeks_to_any_picture(files, fps):
    """Asked for the time of a row, it shows that row's picture first."""
    path, expected = files[fps]
    for row in (0, 1, 2, len(expected) // 2, len(expected) - 2, len(expected) - 1):
        assert play(path, "-ss", f"{row / fps:.6f}", "-frames:v", "1") == [expected[row]]


@pytest.mark.parametrize("fps", [60, 30, 15])
def test_pictures_are_found_by_seeking_as_by_reading(files, fps):
    """PyAV, to the time of every row in turn, from the last to the first."""
    path, expected = files[fps]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for row in reversed(range(len(expected))):
            container.seek(round(row / fps / stream.time_base), stream=stream)
            frame = next(container.decode(stream))
            assert frame.pts * stream.time_base * fps == row
            assert read_frame_counter(frame.to_ndarray(format="rgb24")) == expected[row]


@pytest.mark.parametrize("fps", [60, 30, 15])
def test_a_browser_seeks_to_pictures(files, fps):
    """Debian's Chromium, to the middle of what a row's picture is shown for, forwards and then backwards."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    path, expected = files[fps]
    rows = [*range(1, len(expected), 7), *reversed(range(0, len(expected) - 1, 11))]
    mp4 = base64.b64encode(path.read_bytes()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*BROWSER])
        shown = browser.new_page().evaluate(SHOW, [mp4, [(row + 0.5) / fps for row in rows]])
        browser.close()
    pictures = np.array(shown, np.uint8).reshape(-1, HEIGHT, WIDTH, 4)[..., :3]
    assert [read_frame_counter(picture) for picture in pictures] == [expected[row] for row in rows]
