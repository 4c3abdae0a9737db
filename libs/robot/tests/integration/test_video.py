"""Pictures on their way into segments, with the real encoder process, PyAV, kills and full disks."""

import asyncio
import os
import signal

import numpy as np
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.shipping.retention import KEEP_S, prune_stream
from lerobot_robot_backend.spool.locks import is_locked
from lerobot_robot_backend.spool.stream import StreamProgress, read_stream, write_progress
from lerobot_robot_backend.video.capture import PictureCounts
from lerobot_robot_backend.video.files import (
    ENCODER_LOCK,
    ENCODER_LOG,
    finished_segments,
)
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_schema.files import DroppedFrames
from teleop_schema.limits import Limits
from teleop_schema.session import Camera
from teleop_testing.robots.segments import assert_all_told, decode, no_video, read_video, wait_for
from teleop_testing.robots.spooled import pass_time
from teleop_testing.waiting import PATIENCE_S

HEIGHT, WIDTH = 120, 160
CAMERAS = {"front": Camera(HEIGHT, WIDTH, 30.0), "wrist": Camera(HEIGHT, WIDTH, 30.0)}
JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}


def picture(number: int, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return render("front", REST, number, height=height, width=width)


def finish(client: TelemetryClient) -> None:
    client.close()
    assert client._video.wait_encoded(PATIENCE_S), (client.stream_dir / ENCODER_LOG).read_text()


@pytest.fixture
def make_recording(make_client):
    """A session of two cameras at 30 pictures/s in a loop at 60 Hz."""
    clients = []

    def make(**options) -> TelemetryClient:
        clients.append(make_client(cameras=CAMERAS, **options))
        return clients[-1]

    yield make
    for client in clients:
        if client._video.encoder_pid is not None:
            os.kill(client._video.encoder_pid, signal.SIGCONT)
        client.close()
        client._video.wait_encoded(PATIENCE_S)


async def test_every_new_picture_is_recorded_once(make_recording):
    """Loop at 60 Hz, cameras at 30: each picture has the index of the iteration that first saw it, and its
    own time; a segment has ten seconds of pictures, and the next begins with a keyframe."""
    client = make_recording()
    start_us = client.clock.started_us
    times = [start_us + k * 33_333 for k in range(320)]
    for k, taken_us in enumerate(times):
        image = picture(k)
        for _ in range(2):
            client.log(
                JOINTS | {"front": image, "wrist": image.copy()},
                JOINTS,
                captured_us=taken_us,
                picture_us={"front": taken_us},
            )
        if k % 20 == 0:
            wait_for(lambda: client._video._ring.read() is None, "the encoder takes pictures")
    finish(client)
    for camera in CAMERAS:
        recorded = read_video(client.stream_dir, camera)
        assert recorded.counters == [*range(320)]
        assert recorded.frame_indexes == [*range(0, 640, 2)]
        assert [len(segment.video.frames.frame_index) for segment in recorded.segments] == [300, 20]
        assert not recorded.dropped
    assert read_video(client.stream_dir, "front").captured_us == times
    video = recorded.segments[0].video
    assert (video.session, video.robot_id, video.fps) == (client._writer._stream, "robot_A", 30.0)
    assert (video.height, video.width) == (HEIGHT, WIDTH)
    counts = client.pictures()
    assert counts == dict.fromkeys(CAMERAS, PictureCounts(320, 0, 0, None, segments=2, stored=0))
    assert (
        str(counts["front"])
        == "320 pictures recorded, 0 dropped, 0 of 2 segments on the server, the rest is safe in the spool"
    )


async def test_an_array_that_is_filled_again_holds_a_new_picture(make_recording):
    """As simulators render: without a time, a picture is new if it shows anything else than the last one did,
    in whichever array."""
    client = make_recording()
    buffers = {"front": picture(0), "wrist": picture(0)[:, ::-1]}
    for k in range(10):
        for buffer in buffers.values():
            buffer[:] = picture(k)
        copied = buffers | {"front": buffers["front"].copy()}
        for iteration, pictures in enumerate((buffers, buffers, copied), 3 * k):
            client.log(JOINTS | pictures, JOINTS, captured_us=client.clock.started_us + iteration * 16_667)
    finish(client)
    for camera in CAMERAS:
        recorded = read_video(client.stream_dir, camera)
        assert recorded.counters == [*range(10)]
        assert recorded.frame_indexes == [*range(0, 30, 3)]


async def test_a_scene_that_rests_is_seen_again(make_recording):
    """Of pictures without a time nobody can tell a scene in which nothing moves from a camera that stands
    still: what the robot goes on to give is recorded five times a second."""
    client = make_recording()
    for k in range(60):
        taken_us = client.clock.started_us + k * 33_334
        pictures = {"front": picture(0), "wrist": picture(0)}
        times = {"wrist": client.clock.started_us}
        client.log(JOINTS | pictures, JOINTS, captured_us=taken_us, picture_us=times)
    finish(client)
    seen = read_video(client.stream_dir, "front")
    assert (seen.frame_indexes, set(seen.counters)) == ([*range(0, 60, 6)], {0})
    assert read_video(client.stream_dir, "wrist").frame_indexes == [0]


async def test_one_can_wait_for_the_encoder(make_recording):
    """Before its loop begins, a program may wait until pictures are encoded; but not for ever."""
    client = make_recording()
    assert client.wait_for_encoder(PATIENCE_S)
    assert not make_recording().wait_for_encoder(0.0)


async def test_killed_encoder_loses_nothing(make_recording):
    """kill -9 in the middle: what it had not put into a file lies in the ring for the next one."""
    client = make_recording()
    for k in range(90):
        client.log(JOINTS | {"front": picture(k)}, JOINTS)
        if k in (30, 60):
            pid = client._video.encoder_pid
            wait_for(lambda: client._video._ring.account(0).recorded > 5, "pictures are recorded")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: client._video.encoder_pid not in (None, pid), "another encoder runs")
    finish(client)
    recorded = read_video(client.stream_dir)
    assert recorded.counters == recorded.frame_indexes == [*range(90)]
    assert not recorded.dropped
    counts = client.pictures()["front"]
    assert (counts.recorded, counts.dropped) == (90, 0)


async def test_stream_is_encoded_from_its_first_moment_on(make_recording):
    """Before its encoder has begun to work: a recording may be over by then, and its video be asked for."""
    client = make_recording()
    lock = client.stream_dir / ENCODER_LOCK
    assert is_locked(lock)
    assert client.wait_for_encoder(PATIENCE_S)
    client._upkeep.stop()
    os.kill(client._video.encoder_pid, signal.SIGKILL)
    wait_for(lambda: client._video.encoder_pid is None, "the encoder is gone")
    assert not is_locked(lock)
    client.close()
    assert is_locked(lock)
    finish(client)
    assert not is_locked(lock)


async def test_encoder_ends_with_its_recording_only(make_recording):
    """Signals that a terminal or a service manager sends to everybody do not end it before its recorder."""
    client = make_recording()
    assert client.wait_for_encoder(PATIENCE_S)
    encoder = client._video.encoder_pid
    assert os.getsid(encoder) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(encoder, number)
    client.log(JOINTS | {"front": picture(0)}, JOINTS)
    wait_for(lambda: client._video._ring.account(0).recorded == 1, "the encoder goes on")
    assert client._video.encoder_pid == encoder
    assert os.getpriority(os.PRIO_PROCESS, encoder) > os.getpriority(os.PRIO_PROCESS, 0)
    finish(client)
    assert client._video.encoder_pid is None


async def test_slow_encoder_costs_pictures_but_no_time(make_recording, caplog):
    """While the encoder stands still, the ring fills: pictures are dropped by name, and log() goes on."""
    client = make_recording()
    image = picture(0)
    client.log(JOINTS | {"front": image}, JOINTS)
    wait_for(lambda: client._video._ring.account(0).recorded == 1, "the encoder works")
    os.kill(client._video.encoder_pid, signal.SIGSTOP)
    room = client._video._ring.capacity // image.nbytes
    for k in range(1, room + 50):
        client.log(JOINTS | {"front": picture(k)}, JOINTS)
    os.kill(client._video.encoder_pid, signal.SIGCONT)
    wait_for(lambda: client._video._ring.read() is None, "the encoder goes on")
    client.log(JOINTS | {"front": picture(room + 50)}, JOINTS)
    finish(client)
    recorded = read_video(client.stream_dir)
    assert_all_told(recorded, {k: k for k in range(room + 51)})
    (gap,) = recorded.dropped
    assert gap.end == room + 50
    assert gap.reason == f"{gap.end - gap.first} pictures: the encoder did not keep up with the cameras"
    assert caplog.text.count("the encoder did not keep up") == 1
    assert f"{gap.end - gap.first} dropped (the encoder did not keep up" in str(client.pictures()["front"])


async def test_what_is_missing_at_the_end_is_named_too(make_recording):
    """Nothing follows the last dropped pictures: they are named in the last segment."""
    client = make_recording()
    image = picture(0)
    client.log(JOINTS | {"front": image}, JOINTS)
    wait_for(lambda: client._video._ring.account(0).recorded == 1, "the encoder works")
    os.kill(client._video.encoder_pid, signal.SIGSTOP)
    last = client._video._ring.capacity // image.nbytes + 10
    for k in range(1, last):
        client.log(JOINTS | {"front": picture(k)}, JOINTS)
    os.kill(client._video.encoder_pid, signal.SIGCONT)
    finish(client)
    recorded = read_video(client.stream_dir)
    assert_all_told(recorded, {k: k for k in range(last)})
    assert recorded.dropped[-1].end == last


async def test_what_is_no_picture_is_named(make_recording, caplog):
    """Depth, floats and scraps are no video; the camera's other pictures are recorded."""
    client = make_recording()
    strange = [
        np.zeros((HEIGHT, WIDTH, 1), np.uint16),
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.zeros((HEIGHT, WIDTH), np.uint8),
        "picture",
    ]
    for k in range(8):
        client.log(JOINTS | {"front": picture(k) if k % 2 == 0 else strange[k // 2]}, JOINTS)
    finish(client)
    recorded = read_video(client.stream_dir)
    assert_all_told(recorded, {k: k for k in range(8)})
    assert recorded.counters == [0, 2, 4, 6]
    reason = "1 picture: the camera gave something other than an 8-bit RGB picture"
    assert recorded.dropped == [DroppedFrames(k, k + 1, reason) for k in (1, 3, 5, 7)]
    assert caplog.text.count("8-bit RGB") == 1
    assert client.logged == 8


async def test_camera_that_changes_its_size_begins_a_segment(make_recording):
    """Nothing is lost; each segment tells its own size."""
    client = make_recording()
    for k in range(6):
        size = {"height": 96, "width": 128} if k >= 3 else {}
        client.log(JOINTS | {"front": picture(k, **size)}, JOINTS)
    finish(client)
    recorded = read_video(client.stream_dir)
    assert recorded.counters == [*range(6)]
    assert [(s.video.height, s.video.width) for s in recorded.segments] == [(HEIGHT, WIDTH), (96, 128)]


async def test_odd_sizes_become_even(make_recording):
    """The last row and column are there twice; the sidecar tells the size of the video."""
    client = make_recording()
    client.log(JOINTS | {"front": picture(0, height=121, width=161)}, JOINTS)
    finish(client)
    (segment,) = read_video(client.stream_dir).segments
    assert (segment.video.height, segment.video.width) == (122, 162)
    (image,) = decode(segment.path)
    difference = np.abs(image[:121, :161].astype(int) - picture(0, height=121, width=161))
    assert difference.mean() < 4


async def test_lossless_is_lossless(make_recording):
    """Every value of every pixel, also of odd sizes and of noise."""
    client = make_recording(video="lossless")
    images = [np.random.default_rng(k).integers(0, 256, (49, 65, 3), np.uint8) for k in range(5)]
    for image in images:
        client.log(JOINTS | {"front": image}, JOINTS)
    finish(client)
    (segment,) = finished_segments(client.stream_dir)
    np.testing.assert_array_equal(decode(segment.path), images)


async def test_without_video_nothing_is_kept(make_client, monkeypatch):
    """Switched off by the environment, no process is started; a wrong choice is an error that names it."""
    monkeypatch.setenv("LEROBOT_BACKEND_VIDEO", "off")
    with make_client(cameras=CAMERAS) as client:
        client.log(JOINTS | {"front": picture(0), "wrist": None}, JOINTS)
    assert not (client.stream_dir / "video").exists()
    assert client.pictures() == {}
    monkeypatch.setenv("LEROBOT_BACKEND_VIDEO", "best")
    with pytest.raises(ValueError, match="one of high, lossless, off"):
        make_client(cameras=CAMERAS)


async def test_camera_that_can_not_be_recorded_is_named_from_the_start(make_client, caplog):
    """A name that can't be a folder's, four values per pixel: the session has only the cameras that will have
    video, so that no export waits for others, and tells of each other one why."""
    cameras = {"../up": Camera(HEIGHT, WIDTH), "rgbd": Camera(HEIGHT, WIDTH, channels=4)}
    rgbd = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    with make_client(cameras=cameras | {"front": Camera(HEIGHT, WIDTH)}) as client:
        client.log(JOINTS | {"front": picture(0), "../up": picture(0), "rgbd": rgbd}, JOINTS)
    client._video.wait_encoded(PATIENCE_S)
    assert read_video(client.stream_dir).frame_indexes == [0]
    session = read_stream(client.stream_dir).session
    assert session.cameras == {"front": Camera(HEIGHT, WIDTH)}
    assert session.host["cameras_not_recorded"] == client.cameras_not_recorded
    assert client.cameras_not_recorded.keys() == cameras.keys()
    assert "camera rgbd is not recorded: its pictures have 4 values per pixel" in caplog.text
    assert SpoolReader(client.stream_dir).read(Limits()).extra == {}


async def test_time_that_is_none_is_that_of_the_frame(make_recording):
    """Nanoseconds, text or nothing in the place of a picture's time cost neither sample nor picture."""
    client = make_recording()
    for k, moment in enumerate((10**18, "noon", None, 1.5, np.int64(7))):
        client.log(JOINTS | {"front": picture(k)}, JOINTS, captured_us=k, picture_us={"front": moment})
    finish(client)
    assert read_video(client.stream_dir).captured_us == [0, 1, 2, 3, 7]


async def test_frame_that_became_a_gap_keeps_its_picture(make_recording):
    """A joint that is no number costs the sample, not the picture."""
    client = make_recording()
    client.log(JOINTS | {"front": picture(0)}, JOINTS)
    with pytest.raises(ValueError, match=r"shoulder\.pos"):
        client.log(JOINTS | {"shoulder.pos": "far", "front": picture(1)}, JOINTS)
    finish(client)
    assert read_video(client.stream_dir).frame_indexes == [0, 1]


async def test_full_disk_costs_pictures_by_name(make_client, tmp_path, monkeypatch):
    """Too little room for video: the pictures are named as missing, and recorded again when there is room."""
    from lerobot_robot_backend.client import TelemetryClient
    from lerobot_robot_backend.video import encoder as encoder_module
    from lerobot_robot_backend.video.encoder import encode
    from lerobot_robot_backend.video.picture_ring import Reason, create_ring

    monkeypatch.setattr(TelemetryClient, "_open_video", lambda *_: None)
    client = make_client(cameras={"front": CAMERAS["front"]})
    ring = create_ring(1024 * 1024, tmp_path)
    free = iter([10**9, 10**6, 10**6, 10**9])
    usage = type(encoder_module.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(encoder_module.shutil, "disk_usage", lambda _: usage(10**9, 0, next(free)))
    for k in range(4):
        ring.see(0, k + 1, k, Reason.NONE)
        # Each picture has another size: so each needs a segment of its own.
        assert ring.write(0, k, k, k, picture(k, height=96 + 2 * k), Reason.NONE)
    ring.finish()
    await asyncio.to_thread(encode, client.stream_dir, ring, "high", min_free_bytes=10**8)
    recorded = read_video(client.stream_dir)
    assert recorded.counters == [0, 3]
    reason = "2 pictures: only 1.0 MB are free on the disk of the spool"
    assert recorded.dropped == [DroppedFrames(1, 3, reason)]
    client.close()


async def test_stream_with_unstored_video_is_not_removed(make_recording):
    """The samples are on the server for longer than a day, the video is not: it stays, with its session."""
    client = make_recording()
    client.log(JOINTS | {"front": picture(0)}, JOINTS)
    finish(client)
    stream_dir = client.stream_dir
    write_progress(stream_dir, StreamProgress(next=1, session_id=1, ended=True))
    prune_stream(stream_dir)
    pass_time(client.spool_dir, KEEP_S)
    prune_stream(stream_dir)
    assert not list(stream_dir.glob("*.seg"))
    assert len(list(finished_segments(stream_dir))) == 1
    assert (stream_dir / "session.json").exists()


async def test_sessions_without_memory_for_pictures_go_on(make_client, monkeypatch, caplog):
    """Without room for the ring the joints are recorded; log and session say that video is not."""
    from lerobot_robot_backend.video import capture as video_capture

    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(video_capture, "create_ring", refuse)
    with make_client(cameras=CAMERAS) as client:
        assert client.log(JOINTS | {"front": picture(0)}, JOINTS) == 0
    assert "no video is recorded" in caplog.text
    why = "no video is recorded: [Errno 12] Cannot allocate memory"
    assert client.cameras_not_recorded == no_video(client.stream_dir) == dict.fromkeys(CAMERAS, why)
