"""Code that the command lines of both shippers share."""

import argparse
import logging
import os
from collections.abc import Callable
from pathlib import Path

from teleop_client.address import backend_url_option
from teleop_client.credentials import TOKEN_VARIABLE, URL_VARIABLE, Tokens
from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped
from teleop_schema.decoding import prepare_types

from lerobot_robot_backend.shipping.named_folder import check_named
from lerobot_robot_backend.spool.stream import SpoolError

EXIT_FAILED = 1  # something is still on the disk; the log says what
EXIT_LOCKED = 75  # EX_TEMPFAIL: another process is sending this stream

log = logging.getLogger("lerobot_robot_backend.shipping")


def shipper_parser(module: str, description: str | None) -> Parser:
    """The parser of `python -m <module>`, with the arguments of every shipper."""
    parser = Parser(prog=f"python -m {module}", description=description)
    parser.add_argument("directory", type=Path, help="folder of a stream; with --all, folder of the spool")
    parser.add_argument(
        "--all", action="store_true", help="ship everything that finished recordings left in the spool"
    )
    parser.add_argument(
        "--backend_url",
        type=backend_url_option,
        help="ship to this address from now on, instead of the one it was recorded for",
    )
    return parser


def run_shipper(chosen: argparse.Namespace, ship: Callable[[], int]) -> int:
    """Exit code of `ship`; EXIT_FAILED if the folder is the wrong one, or can't be used."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    prepare_types()
    for line in mistyped(os.environ):
        log.warning("%s", line)
    try:
        check_named(chosen.directory, whole_spool=chosen.all)
        return ship()
    except (SpoolError, OSError) as error:
        log.error("%s", error)
        return EXIT_FAILED


def tokens_for_all(backend_url: str | None) -> Tokens:
    """The tokens for a whole spool, whose streams may be for several backends.

    backend_url  the one that all of them are to go to; None: each to its own
    """
    if os.environ.get(TOKEN_VARIABLE) and not (backend_url or os.environ.get(URL_VARIABLE)):
        log.warning(
            "%s is not used: set %s to the backend that it is for, since a spool may hold recordings "
            "for several",
            TOKEN_VARIABLE,
            URL_VARIABLE,
        )
    return Tokens.of_environment(backend_url)


def tell_failure(
    error: Exception,
    stream_dir: Path,
    failed: Callable[[Exception], None],
    *,
    expected: tuple[type[Exception], ...] = (SpoolError, OSError),
) -> None:
    """Log an error with one stream, and call `failed` with it; the other streams continue.

    expected  errors that are logged without a traceback
    """
    if isinstance(error, expected):
        log.error("%s: %s", stream_dir, error)
    else:
        log.error("%s can't be shipped", stream_dir, exc_info=error)
    failed(error)
