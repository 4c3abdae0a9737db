"""Code that all commands of the product share: how they start, and how they refuse wrong usage."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

# As argparse ends.
EXIT_USAGE = 2
# Python's error for a user without HOME and without a line in /etc/passwd.
_NO_HOME = "Could not determine home directory."


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that takes `_` and `-` alike in names of options: LeRobot writes `--robot_id`, most
    commands `--robot-id`.

    Its refusals are two lines; argparse prints its usage before the reason.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As that of argparse, which also calls it for the parser of each subcommand."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words[:end] = map(self._as_declared, words[:end])
        return super().parse_known_args(words, namespace)

    def _as_declared(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            return word
        declared = {option.replace("_", "-"): option for option in self._option_string_actions}
        return declared.get(name.replace("_", "-"), name) + equals + value

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n{self.prog} --help tells what it takes\n")


def run_command(module: str) -> NoReturn:
    """Import a module, and end with the status that its `main` returns.

    An import takes up to seconds. Ctrl-C then ends the process like a command written in C: without a
    traceback, and with the status that shells expect.
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
