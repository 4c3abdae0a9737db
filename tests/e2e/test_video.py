"""Stock `lerobot-teleoperate` with two cameras against the whole backend: its pictures are on the server."""

import sys
import time
from pathlib import Path

import av
import httpx
from lerobot_robot_backend.video.files import has_unstored_video
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.machine.prepared import PreparedPython
from teleop_testing.waiting import PATIENCE_S

TELEOPERATE = Path(sys.executable).parent / "lerobot-teleoperate"
CAMERA = "{type: virtual, width: 320, height: 240, fps: 30, free_running: true}"
SECONDS = 12


def teleoperate(python: PreparedPython, environment: dict[str, str], backend: ServiceProcess) -> str:
    """Run the command to its end; what it said last."""
    command = [
        str(TELEOPERATE),
        "--robot.type=virtual_so101_follower",
        "--robot.id=follower",
        f"--robot.cameras={{front: {CAMERA}, wrist: {CAMERA}}}",
        "--teleop.type=virtual_so101_leader",
        "--teleop.id=leader",
        f"--teleop_time_s={SECONDS}",
        f"--backend_url=ws://{backend.address}",
        "--robot_id=robot_A",
    ]
    done = python.run(command, environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def stored_video(backend: ServiceProcess, folder: Path) -> dict:
    """What the server tells of the session's video, once nothing of it is on its way any more."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        told = httpx.get(f"http://{backend.address}/sessions/1/videos", timeout=PATIENCE_S).json()
        unsent = [path for path in folder.glob("spool/*/*") if has_unstored_video(path)]
        if told.get("videos") and not unsent:
            return told
        assert time.monotonic() < deadline, (told, unsent)
        time.sleep(0.1)


def counters(content: bytes, folder: Path) -> list[int]:
    """The numbers drawn into the pictures of an mp4."""
    (folder / "video.mp4").write_bytes(content)
    with av.open(str(folder / "video.mp4")) as container:
        return [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_pictures_of_a_teleoperation_are_on_the_server(backend, python, environment, tmp_path):
    """At 60 Hz with cameras of 30 fps, each picture is there once, in order, with the time at which it was
    taken; what is missing is named; the command's last lines say so."""
    output = teleoperate(python, environment, backend)
    told = stored_video(backend, tmp_path)
    assert {video["camera_key"] for video in told["videos"]} == {"front", "wrist"}
    for camera in told["cameras"]:
        assert (camera["missing_chunks"], camera["quarantined"]) == ([], 0)
        videos = [video for video in told["videos"] if video["camera_key"] == camera["camera_key"]]
        videos.sort(key=lambda video: video["chunk_index"])
        numbers, indexes, times = [], [], []
        for video in videos:
            address = f"http://{backend.address}{video['content']}"
            numbers += counters(httpx.get(address, timeout=PATIENCE_S).content, tmp_path)
            detail = httpx.get(f"http://{backend.address}/videos/{video['id']}", timeout=PATIENCE_S).json()
            indexes += detail["frame_indices"]
            times += detail["captured_us"]
        assert len(numbers) == len(indexes) == camera["pictures"] > SECONDS * 5
        assert numbers == sorted(set(numbers))
        assert indexes == sorted(set(indexes))
        # The camera takes a picture every 1/30 s, whoever reads it: its number tells the time it was taken.
        assert [round((taken_us - times[0]) * 30 / 1e6) for taken_us in times] == [
            number - numbers[0] for number in numbers
        ]
        dropped = sum(int(gap["reason"].split()[0]) for video in videos for gap in video["dropped"])
        said = f"backend: {camera['camera_key']}: {len(numbers)} pictures recorded, {dropped} dropped"
        assert said in output
