"""Activates the plugin in a LeRobot command, and says so if that fails.

If the import of a plugin fails, LeRobot only logs it and runs the command without the plugin. Nobody would
notice that nothing is recorded. This module needs only the standard library, because any other import may
be the one that fails.
"""

import atexit
import os
import sys
import traceback
from collections.abc import Sequence

from lerobot_robot_backend.lerobot.exits import exit_with

REMEDY = "install the backend's robot library again (pip install --find-links dist lerobot_robot_backend)"


def activate_or_tell() -> None:
    """Activate the plugin. If that fails and flags name a backend, end the process: no robot has moved yet.

    If only the environment names a backend, the command continues, because it may create no robot. The
    failure is then shown now and in the last line, and raised.
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
    """Whether a command line seems to have flags of the backend; judged by prefix,
    without knowing the flags."""
    ours = ("__backend_", "__robot_id")  # with `-` or `_`
    return any(argument.replace("-", "_").startswith(ours) for argument in argv)


def _tell(why: str) -> None:
    print(f"backend: nothing is recorded: {why}", file=sys.stderr)
