"""Stock `lerobot-record` on the virtual robot with two cameras, and a sync-agent beside it, as processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

COMMANDS = Path(sys.executable).parent
CAMERAS = "{{front: {{type: virtual, width: {width}, height: {height}, fps: 30}}, wrist: {{type: virtual, width: {width}, height: {height}, fps: 30}}}}"  # noqa: E501


def record_command(
    root: Path,
    *,
    episodes: int,
    episode_s: float,
    width: int = 640,
    height: int = 480,
    fps: int = 30,
    resume: bool = False,
) -> list[str]:
    """`lerobot-record` of a dataset with two cameras in the folder `root`."""
    settings: dict[str, object] = {
        "repo_id": "someone/picking",
        "root": root,
        "single_task": "pick the cube",
        "fps": fps,
        "num_episodes": episodes,
        "episode_time_s": episode_s,
        "reset_time_s": 0.1,
        "push_to_hub": "false",
    }
    return [
        str(COMMANDS / "lerobot-record"),
        "--robot.type=virtual_so101_follower",
        "--robot.id=follower",
        f"--robot.cameras={CAMERAS.format(width=width, height=height)}",
        "--teleop.type=virtual_so101_leader",
        "--teleop.id=leader",
        *(f"--dataset.{name}={value}" for name, value in settings.items()),
        "--play_sounds=false",
        *(["--resume=true"] if resume else []),
    ]


class Command:
    """A command that runs beside the test, its output in a file.

    folder  where LeRobot and the agent keep everything of their own
    """

    def __init__(self, command: Sequence[str], folder: Path, name: str) -> None:
        self._command = command
        self._environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_LEROBOT_HOME": str(folder / "lerobot"),
            "LEROBOT_BACKEND_SPOOL": str(folder / "spool"),
            "XDG_STATE_HOME": str(folder / "state"),
        }
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is appended to `log`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def wait(self, timeout_s: float) -> int:
        """Its exit code at its end; raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.terminate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            self.kill()


def sync_agent(
    server: str, watch: Path, folder: Path, *more: str, robot_id: str = "robot_A", command: str = "run"
) -> Command:
    """`sync-agent run` (or another `command` of it, with `more` words), not yet started."""
    words = [
        str(COMMANDS / "sync-agent"),
        command,
        "--backend_url",
        server,
        "--robot-id",
        robot_id,
        "--watch",
        str(watch),
        *more,
    ]
    return Command(words, folder, f"sync-agent-{command}")
