"""A teleoperation as a process of its own: a virtual arm at 60 Hz that notes what it has logged.

Every sample whose `log()` has returned is appended to a file at once, so that the file is what must later
be in the database, whatever was killed meanwhile.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lerobot_robot_backend import TelemetryClient
from lerobot_robot_virtual.arm import NAMES, VirtualArm, leader_positions
from numpy.typing import NDArray
from teleop_schema.session import Camera

from teleop_testing.robots.children import end_children, find_child, signal_child
from teleop_testing.waiting import PATIENCE_S

FPS = 60
WIDTH = 2 * len(NAMES)
CAMERA = "front"
# A new picture comes with each frame of such an index.
PICTURE_EVERY = 2


class Teleoperation:
    """A running teleoperation; `robot_id` records to `address` through a spool of its own.

    camera  it has one, CAMERA, that gives a new picture with each PICTURE_EVERYth frame
    """

    def __init__(self, address: str, robot_id: str, folder: Path, *, camera: bool = False) -> None:
        self.robot_id = robot_id
        self.has_camera = camera
        self.spool = folder / "spool"
        self._oracle = Path(tempfile.mkstemp(dir=folder, prefix="logged-")[1])
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", __name__, f"ws://{address}", robot_id, self.spool, self._oracle),
                *(["camera"] if camera else []),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.stream = self._process.stdout.readline().strip()
        if not self.stream:
            self._process.kill()
            self._process.communicate()
            raise AssertionError("the teleoperation ended before it began to record")
        self.stream_dir = self.spool / robot_id / self.stream

    @property
    def pid(self) -> int:
        """Of the recording process."""
        return self._process.pid

    def pid_of(self, module: str) -> int | None:
        """The session's process of that module (SHIPPER, …), None while there is none."""
        process = find_child(self.stream_dir, module)
        return None if process is None else int(process.pid)

    def signal(self, module: str, number: int) -> bool:
        """Send a signal to the session's process of that module; False if there was none."""
        return signal_child(self.stream_dir, module, number)

    def end_children(self) -> None:
        """kill -9 of all that the session has started and that outlives it."""
        end_children(self.stream_dir)

    def logged(self) -> NDArray[np.float32]:
        """(N, 12) float32: state, then action, of every frame whose `log()` has returned."""
        content = self._oracle.read_bytes()
        whole = len(content) // (4 * WIDTH) * (4 * WIDTH)
        return np.frombuffer(content[:whole], np.float32).reshape(-1, WIDTH)

    def wait_for_frames(self, more: int) -> None:
        """Return once `more` further frames are logged."""
        wanted = len(self.logged()) + more
        while len(self.logged()) < wanted:
            assert self._process.poll() is None, "the teleoperation has ended"
            time.sleep(0.05)

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=PATIENCE_S)

    def kill(self) -> None:
        """kill -9, unless it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def main(backend_url: str, robot_id: str, spool: str, oracle: str, camera: str = "") -> None:
    """Teleoperate until Ctrl-C; what `log` returned for is noted in the file `oracle`, state and action."""
    # Where the tests run in the background of a shell, Ctrl-C is ignored by whatever they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arm = VirtualArm()
    picture = np.zeros((48, 64, 3), np.uint8)
    with (
        open(oracle, "ab", buffering=0) as notes,
        TelemetryClient(
            backend_url,
            robot_id,
            state_names=NAMES,
            action_names=NAMES,
            fps=FPS,
            robot_type="virtual_so101_follower",
            cameras={CAMERA: Camera(48, 64, FPS / PICTURE_EVERY)} if camera else {},
            spool_dir=spool,
            min_free_bytes=0,
        ) as client,
    ):
        print(client.stream_dir.name, flush=True)
        begun = time.perf_counter()
        frame = taken_us = 0
        try:
            while True:
                observation, action = arm.positions, leader_positions(frame / FPS)
                arm.command(action)
                if camera and frame % PICTURE_EVERY == 0:
                    picture = np.full((48, 64, 3), frame % 256, np.uint8)
                    taken_us = client.clock.now_us()
                seen = {**observation, CAMERA: picture} if camera else observation
                client.log(seen, action, picture_us={CAMERA: taken_us})
                os.write(notes.fileno(), np.array([*observation.values(), *action.values()], "<f4").tobytes())
                frame += 1
                time.sleep(max(0.0, begun + frame / FPS - time.perf_counter()))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
