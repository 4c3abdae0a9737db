"""What the commands of access work on, and what they share: how they show addresses, times and lists."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import SplitResult, urlsplit

from teleop_runtime.access.principal import Principal
from teleop_schema.errors import BadInput

# As whom they are noted.
OPERATOR = Principal("command line", "admin")
MAX_DAYS = 36_500


@dataclass(frozen=True)
class Installation:
    """What a command works on.

    server     address under which others reach this backend, http://… or https://…
    authority  PEM certificate of the authority that signs the server's; None: plain HTTP, or one that
               everybody trusts
    robot_quota_bytes
               what the files of a robot may take that has no quota of its own; None: any amount
    """

    database_url: str
    server: str
    authority: str | None
    robot_quota_bytes: int | None = None

    def reached(self, named: str | None) -> SplitResult:
        """The address under which others reach this backend, if it is not `named`; raises BadInput."""
        said = named or self.server
        scheme = "https" if self.authority else "http"
        server = urlsplit(said if "://" in said else f"{scheme}://{said}")
        if server.scheme not in ("http", "https") or not server.hostname or "@" in server.netloc:
            raise BadInput(f"{said!r} is not the address of a server", field="--server")
        return server


def told_time(time: datetime | None) -> str:
    """A time, to the minute; "never" if there is none."""
    return "never" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M UTC}"


def in_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    told = ("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in told)


def days(word: str) -> int:
    """A number of days on a command line; raises argparse's error."""
    try:
        found = int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number") from None
    if not 1 <= found <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{word} is not between 1 and {MAX_DAYS}")
    return found


def add_robots(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which robots' data somebody may touch."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--robot", action="append", help="only data of this robot; may be given several times; default: all"
    )
    either.add_argument(
        "--all-robots", action="store_true", help="data of all robots, for a name that was for some only"
    )
