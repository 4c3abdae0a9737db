"""LeRobot's commands, from a process that has imported LeRobot once: each runs in a fork of it.

Importing what they import takes longer than most of them take.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

COMMANDS = ("lerobot-edit-dataset", "lerobot-train")


class LeRobotCommands:
    """The running process; it has the environment that it was started with."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, command: str, *words: str) -> str:
        """Run one of COMMANDS to its end; what it printed. Raises AssertionError with that if it failed."""
        with tempfile.NamedTemporaryFile() as output:
            request = {"output": output.name, "argv": [command, *words]}
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = self._process.stdout.readline().strip()
            printed = Path(output.name).read_text(errors="replace")
        assert status == "0", f"{command}: exit status {status or 'unknown'}\n{printed[-3000:]}"
        return printed


@contextmanager
def lerobot_commands() -> Iterator[LeRobotCommands]:
    """The process, in this one's environment; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        # Popen closes its input, which ends it.
        yield LeRobotCommands(process)


def main() -> None:
    # Nothing but importing may happen here: a thread that computes would not be there in a fork.
    functions = {
        each.name: each.load() for each in entry_points(group="console_scripts") if each.name in COMMANDS
    }
    for line in sys.stdin:
        request = json.loads(line)
        if (child := os.fork()) == 0:
            _run(functions[request["argv"][0]], request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(function: Any, request: dict[str, Any]) -> NoReturn:
    output = os.open(request["output"], os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = request["argv"]
    sys.exit(function())


if __name__ == "__main__":
    main()
