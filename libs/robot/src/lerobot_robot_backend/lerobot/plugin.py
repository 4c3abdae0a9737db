"""The LeRobot plugin: taps the robot and the dataset of a command that is about to run."""

import atexit
import functools
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from teleop_schema.commands.variables import PREFIX, mistyped

from lerobot_robot_backend.lerobot.exits import exit_with
from lerobot_robot_backend.lerobot.options import BadFlag, options_or_exit, read_request


@functools.cache
def activate() -> bool:
    """Tap the LeRobot command or script that is about to run; only the first call has an effect.

    returns  whether there is a backend to record for; without one, nothing is done, except that a command
             with a robot is told at its end if the environment shows that a recording was wanted

    Wrong flags, or a disk that can't be used, end the process before a robot moves: now if there are flags;
    if only the environment names a backend, when a robot is created, because many commands create none.
    """
    for line in mistyped(os.environ):
        print(f"backend: {line}", file=sys.stderr)
    try:
        request = read_request(sys.argv, os.environ)
    except BadFlag as error:
        exit_with(str(error))
    if request is None:
        if why := _wanted_in_vain():
            from lerobot_robot_backend.lerobot.unrecorded import tell_at_end

            tell_at_end(why)
        return False
    if request.by_flag:
        options_or_exit(request)
    from lerobot_robot_backend.lerobot.tap import Tap

    tap = Tap(request)
    tap.install()
    atexit.register(tap.finish)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    return True


def _wanted_in_vain() -> list[str]:
    """Lines for a command that nobody's settings record, though the environment has some of the robot's:
    a mistyped one, or the robot's name. Empty if nobody seems to want a recording."""
    lines = list(mistyped(name for name in os.environ if name.upper().startswith(PREFIX)))
    if lines or os.environ.get("LEROBOT_BACKEND_ROBOT_ID"):
        lines.append("nothing is recorded: set LEROBOT_BACKEND_URL (or --backend_url)")
    return lines


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Make LeRobot end in order, as on Ctrl-C: any other signal would leave its dataset unfinished."""
    # A closing terminal may send several signals; the second must not interrupt the saving.
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)
