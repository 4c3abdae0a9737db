"""Records a program that drives a robot without LeRobot's command line.

    import lerobot_robot_backend.auto                            # at the top of your own script
    python -m lerobot_robot_backend.auto [flags] script.py …     # or leave the script as it is
    python -m lerobot_robot_backend.auto [flags] -m package.module …

Flags and environment variables are those of the plugin (README).
"""

import runpy
import sys
from pathlib import Path

from lerobot_robot_backend.lerobot.exits import EXIT_USAGE
from lerobot_robot_backend.lerobot.plugin import activate

USAGE = """\
usage: python -m lerobot_robot_backend.auto --backend_url=ws://host:8000 --robot_id=robot_A script.py …
       python -m lerobot_robot_backend.auto --backend_url=… --robot_id=… -m package.module …"""

if not activate():
    print(
        "backend: nothing is recorded: set --backend_url or LEROBOT_BACKEND_URL",
        file=sys.stderr,
    )


def main() -> None:
    """Run the script or module that the command line names, as Python itself would."""
    arguments = sys.argv[1:]
    is_module = arguments[:1] == ["-m"]
    if is_module:
        del arguments[0]
    if not arguments or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        sys.exit(EXIT_USAGE)
    sys.argv[:] = arguments
    if is_module:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
    if not Path(arguments[0]).is_file():
        print(f"error: {arguments[0]} is not a file\n{USAGE}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
