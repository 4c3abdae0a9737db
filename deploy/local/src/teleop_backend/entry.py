"""The command, which imports all else only once Ctrl-C ends it without a traceback."""

import os
import sys

from teleop_schema.commands.command_line import run_command


def main() -> None:
    """Run it; a backend that starts says so at once, because what it imports takes seconds, or a minute."""
    if len(sys.argv) == 1:
        data = os.environ.get("LEROBOT_BACKEND_DATA_DIR", "data")
        print(f"starting the LeRobot backend, its database in {data}; Ctrl-C stops it", flush=True)
    if sys.argv[1:2] == ["psql"]:
        del sys.argv[1]
        run_command("teleop_backend.psql")
    if sys.argv[1:2] in (["robots"], ["tokens"], ["people"], ["admin-link"], ["erase"]):
        run_command("teleop_backend.access")
    run_command("teleop_backend.command")
