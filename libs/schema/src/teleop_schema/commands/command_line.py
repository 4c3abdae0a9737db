"""Code that all commands of the product share: how they start, and how they refuse wrong usage."""

import argparse
import importlib
import os
import signal
import sys
from typing import NoReturn

EXIT_USAGE = 2
# Python's error for a user without HOME and without a line in /etc/passwd.
_NO_HOME = "Could not determine home directory."


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose refusals are two lines; argparse prints its usage before the reason."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n{self.prog} --help tells what it takes\n")


def run_command(module: str) -> NoReturn:
    """Import a module, and end with the status that its `main` returns.

    An import takes up to seconds. Ctrl-C then ends the process like a command written in C:
    without a traceback,
    and with the status that shells expect.
    """
    ours = signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = importlib.import_module(module).main
    signal.signal(signal.SIGINT, ours)
    try:
        sys.exit(main())
    except RuntimeError as error:
        if str(error) != _NO_HOME:
            raise
        print("error: this user has no home folder; set HOME to one that it may write to", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
