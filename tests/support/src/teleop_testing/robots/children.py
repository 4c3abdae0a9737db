"""The processes that a recording starts and that outlive it: found, and signalled, by no more than a look."""

import time
from pathlib import Path

import psutil

SHIPPER = "lerobot_robot_backend.shipper"
VIDEO_SHIPPER = "lerobot_robot_backend.video_shipper"
ENCODER = "lerobot_robot_backend.video.encoder"
CHILDREN = (SHIPPER, VIDEO_SHIPPER, ENCODER)
LOOK_EVERY_S = 0.01


def find_child(stream_dir: Path, module: str) -> psutil.Process | None:
    """The session's process of that module.

    Told by the whole path of the session, which lies in a test's own folder: it outlives the recording that
    started it, and no other process may be taken for it and be killed. psutil signals it only while it is
    still the one that was found.
    """
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and module in command and command[-1] == str(stream_dir):
            return process
    return None


def signal_child(stream_dir: Path, module: str, number: int) -> bool:
    """Send a signal to the session's process of that module; False if there was none."""
    process = find_child(stream_dir, module)
    if process is None:
        return False
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def end_children(stream_dir: Path) -> None:
    """kill -9 of all that the session has started and that outlives it."""
    for module in CHILDREN:
        while signal_child(stream_dir, module, 9):
            time.sleep(LOOK_EVERY_S)
