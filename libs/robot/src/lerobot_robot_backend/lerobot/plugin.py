"""The LeRobot plugin: taps the robot and the dataset of a command that is about to run."""

import atexit
import functools
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from teleop_schema.commands.variables import mistyped

from lerobot_robot_backend.lerobot.exits import exit_with
from lerobot_robot_backend.lerobot.options import BadFlag, options_or_exit, read_request


@functools.cache
def activate() -> bool:
    """Listen in on the LeRobot command or the script that is about to run; the first call counts.

    returns  whether there is a backend to record for; without one, nothing at all is done

    What is wrong with the flags, or with the disk, ends the process before a robot moves: now if there are
    flags; if only the environment names a backend, when a robot is made, for many commands make none.
    """
    for line in mistyped(os.environ):
        print(f"backend: {line}", file=sys.stderr)
    try:
        request = read_request(sys.argv, os.environ)
    except BadFlag as error:
        exit_with(str(error))
    if request is None:
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


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Make LeRobot end in order, as on Ctrl-C: any other signal would cost it its dataset."""
    # A closing terminal may send several; what is being saved now is not to be interrupted again.
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)
