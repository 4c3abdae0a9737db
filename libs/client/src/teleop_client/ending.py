"""How the commands of this package end when they did not do what they should."""

import sys
from typing import NoReturn

from teleop_schema.words import shown

REFUSED, TRY_LATER, INTERRUPTED = 1, 75, 130


def end_with(status: int, error: str, hint: str | None) -> NoReturn:
    """Say what went wrong and what to do about it, and exit with that status."""
    print(f"error: {shown(error)}", file=sys.stderr)
    if hint:
        print(f"hint: {shown(hint)}", file=sys.stderr)
    raise SystemExit(status)
