"""Ends a command with one line, before its robot moves."""

import sys
from typing import NoReturn

EXIT_USAGE = 2  # as argparse, and LeRobot's own parser


def exit_with(message: str) -> NoReturn:
    """End the process because it was started with a mistake."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_USAGE)
