"""The commands of `sync-agent`, as processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from teleop_testing.waiting import PATIENCE_S


class AgentCommands:
    """Runs `sync-agent` for robot_A with everything in one folder."""

    def __init__(self, folder: Path, server: str, outputs: Path) -> None:
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "LEROBOT_BACKEND_SPOOL": str(folder / "spool"),
            "LEROBOT_BACKEND_URL": server,
            "LEROBOT_BACKEND_ROBOT_ID": "robot_A",
        }
        self.outputs = outputs
        self.prefix: list[str] = []

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A command, once it has ended."""
        return subprocess.run(
            self._command(arguments), env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )

    @contextmanager
    def running(
        self, *arguments: object, log: int | IO[bytes] = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The command as a process, which is killed -9 in the end unless it is over by then."""
        process = subprocess.Popen(self._command(arguments), env=self.environment, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def once(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`once`, which ends when everything is uploaded."""
        return self("once", "--watch", self.outputs, *arguments)

    def status(self) -> Any:
        """What `status --json` says; as if of one dataset without a state, before there is anything."""
        done = self("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {"datasets": [{"state": ""}]}

    def _command(self, arguments: tuple[object, ...]) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "teleop_sync_agent.cli", *map(str, arguments)]
