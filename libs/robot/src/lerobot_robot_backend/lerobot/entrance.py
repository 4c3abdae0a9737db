"""Brings the plugin into a LeRobot command, and tells if that fails.

LeRobot logs what goes wrong in the import of a plugin and runs the command without it, so nobody would know
that nothing is recorded. Only the standard library is needed here: what fails may be any other import.
"""

import atexit
import os
import sys
import traceback
from collections.abc import Sequence

from lerobot_robot_backend.lerobot.exits import exit_with

REMEDY = "install the backend's robot library again (pip install ./libs/schema ./libs/robot)"


def activate_or_tell() -> None:
    """Activate the plugin. If that fails, flags that name a backend end the process: no robot moved yet.

    Where only the environment names one the command goes on, for it may make no robot: the failure is told
    now and in its last line, and raised.
    """
    given = tuple(sys.argv)
    try:
        from lerobot_robot_backend.lerobot.plugin import activate

        activate()
    except Exception as error:
        why = f"the backend's plugin can't be started: {type(error).__name__}: {error}; {REMEDY}"
        if names_backend(given):
            traceback.print_exc()
            exit_with(f"{why}, or leave out its flags")
        if os.environ.get("LEROBOT_BACKEND_URL"):
            _tell(why)
            atexit.register(_tell, why)
        raise


def names_backend(argv: Sequence[str]) -> bool:
    """Whether a command line has flags of the backend, as far as can be told without knowing them."""
    return any(argument.startswith(("--backend_", "--robot_id")) for argument in argv)


def _tell(why: str) -> None:
    print(f"backend: nothing is recorded: {why}", file=sys.stderr)
