"""How a command is ended, in one line, before its robot moves."""

import sys
from typing import NoReturn

EXIT_USAGE = 2


def exit_with(message: str) -> NoReturn:
    """End the process for a mistake in how it was started."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_USAGE)
