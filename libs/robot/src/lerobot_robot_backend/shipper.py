"""Sends streams of the spool to the server: `python -m lerobot_robot_backend.shipper <stream dir>`.

Each stream has its own process. It outlives the recording, reconnects forever, and exits once the server has
confirmed the whole session. It may be killed at any moment: the next one sends what is on the disk.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from teleop_client.credentials import Tokens
from teleop_schema.words import counted

from lerobot_robot_backend.shipping.commands import (
    EXIT_FAILED,
    EXIT_LOCKED,
    run_shipper,
    shipper_parser,
    tell_failure,
    tokens_for_all,
)
from lerobot_robot_backend.shipping.retention import prune_spool
from lerobot_robot_backend.shipping.sender import Shipper
from lerobot_robot_backend.spool.erased import read_erased
from lerobot_robot_backend.spool.locks import is_locked, locked, name_holder
from lerobot_robot_backend.spool.stream import (
    SHIPPER_LOCK,
    left_by_server,
    read_progress,
    read_stream,
    send_to,
)

# Streams left behind share one uplink with the stream that is being recorded.
CONCURRENT_STREAMS = 4
# The holder of the lock releases it about a second after being asked.
TAKE_OVER_POLL_S = 0.5

log = logging.getLogger("lerobot_robot_backend.shipper")


async def ship_stream(
    stream_dir: Path,
    *,
    backend_url: str | None = None,
    tokens: Tokens | None = None,
    slots: asyncio.Semaphore | None = None,
) -> bool:
    """Send one stream to its end; does nothing and returns False if another process is sending it.

    backend_url  from now on the stream goes there, whichever process sends it

    Raises SpoolError if the directory holds no stream.
    """
    with locked(stream_dir / SHIPPER_LOCK) as held:
        if not held:
            return False
        instead = None
        if backend_url is not None:
            try:
                send_to(stream_dir, backend_url)
            except OSError as error:  # the disk is full, but sending may free space
                log.error(
                    "%s: its new address can't be written: %s; shipping continues", stream_dir, error.strerror
                )
                instead = backend_url
        shipper = Shipper(stream_dir, backend_url=instead, tokens=tokens)
        try:
            await shipper.run(slots)
        finally:
            shipper.close()
    return True


async def take_over(
    stream_dir: Path,
    backend_url: str,
    *,
    tokens: Tokens | None = None,
    slots: asyncio.Semaphore | None = None,
) -> bool:
    """Send one stream to that server, even if another process is sending it; returns whether it was sent
    here.

    The other process uses the new address from its next connection on, and this call waits for it. Raises
    SpoolError, OSError.
    """
    told = False
    while not await ship_stream(stream_dir, backend_url=backend_url, tokens=tokens, slots=slots):
        if not told:
            told = True
            send_to(stream_dir, backend_url)
            holder = name_holder(stream_dir / SHIPPER_LOCK)
            log.warning("%s", describe_holder(stream_dir, holder, backend_url))
        await asyncio.sleep(TAKE_OVER_POLL_S)
        if read_progress(stream_dir).ended:
            return False
    return True


def describe_holder(stream_dir: Path, holder: str, backend_url: str) -> str:
    """The process that holds a stream which is to go to another server, for people."""
    return (
        f"{stream_dir} is being shipped by {holder}, which will use {backend_url} from its next attempt "
        f"on; this command waits, and takes over if that process ends"
    )


async def ship_all(
    spool_dir: Path,
    *,
    backend_url: str | None = None,
    tokens: Tokens | None = None,
    refill: bool = False,
    failed: Callable[[Exception], None] = lambda _error: None,
) -> int:
    """Send every stream that a finished recording left in the spool; returns how many were sent here.

    This includes streams that the server has confirmed but no longer knows when it is asked. If a server
    can't be reached, its streams are tried forever, and do not hold up those of other servers.

    backend_url  from now on all of them go there, even those that another process sends, see `take_over`
    refill       offer everything that the server once had, for a server that can't be asked
    failed       called with the error of each stream that can't be read or sent; the error is also logged

    Raises SpoolError if there is no spool.
    """
    by_server = left_by_server(spool_dir, backend_url, failed=failed)
    prune_spool(spool_dir)
    async with asyncio.TaskGroup() as servers:
        shipped = [
            servers.create_task(_ship_left(left, backend_url, tokens, refill, failed))
            for left in by_server.values()
        ]
    return sum(server.result() for server in shipped)


async def _ship_left(
    left: list[Path],
    backend_url: str | None,
    tokens: Tokens | None,
    refill: bool,
    failed: Callable[[Exception], None],
) -> int:
    """The same for the streams of one server."""
    # Imported here because only this needs HTTP; the shipper of one session stays small.
    from lerobot_robot_backend.shipping.recall import recall, samples_of

    slots = asyncio.Semaphore(CONCURRENT_STREAMS)

    async def ship(stream_dir: Path) -> bool:
        try:
            if backend_url is None:
                sent = await ship_stream(stream_dir, tokens=tokens, slots=slots)
            else:
                sent = await take_over(stream_dir, backend_url, tokens=tokens, slots=slots)
            return sent and read_erased(stream_dir) is None
        except Exception as error:
            tell_failure(error, stream_dir, failed)
            return False

    ended = [] if refill else [each for each in left if read_progress(each).ended]
    async with asyncio.TaskGroup() as group:
        shipping = [group.create_task(ship(each)) for each in left if each not in ended]
        await recall(ended, samples_of, backend_url=backend_url, tokens=tokens)
        shipping += [group.create_task(ship(each)) for each in ended if not read_progress(each).ended]
    return sum(stream.result() for stream in shipping)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = shipper_parser("lerobot_robot_backend.shipper", __doc__)
    parser.add_argument(
        "--refill", action="store_true", help="with --all: offer again everything that the server once had"
    )
    chosen = parser.parse_args(arguments)
    if chosen.refill and not chosen.all:
        parser.error("--refill goes with --all: name the spool's directory")
    logging.getLogger("websockets").setLevel(logging.ERROR)
    return run_shipper(chosen, partial(_ship_all_chosen if chosen.all else _ship_chosen, chosen))


def _ship_all_chosen(chosen: argparse.Namespace) -> int:
    # --all takes no lock: each stream has one, so waiting for one server holds up nobody else.
    failed: list[Exception] = []
    options = {"backend_url": chosen.backend_url, "refill": chosen.refill, "failed": failed.append}
    tokens = tokens_for_all(chosen.backend_url)
    shipped = asyncio.run(ship_all(chosen.directory, tokens=tokens, **options))
    sending = list(_sent_by_others(chosen.directory))
    for line in sending:
        log.info("%s", line)
    if shipped or not (sending or failed):
        done = counted(shipped, "recording") if shipped else f"nothing; {chosen.directory} is sent"
        log.info("shipped by this process: %s", done)
    return EXIT_FAILED if failed else 0


def _sent_by_others(spool_dir: Path) -> Iterator[str]:
    """A line for each finished recording that another process is sending."""
    for url, left in left_by_server(spool_dir, failed=lambda _: None).items():
        for stream_dir in left:
            if not read_progress(stream_dir).ended and is_locked(stream_dir / SHIPPER_LOCK):
                yield f"{stream_dir} is being sent by {name_holder(stream_dir / SHIPPER_LOCK)}, to {url}"


def _ship_chosen(chosen: argparse.Namespace) -> int:
    tokens = Tokens.of_environment(chosen.backend_url or read_stream(chosen.directory).backend_url)
    prune_spool(chosen.directory.absolute().parent.parent)
    if chosen.backend_url is not None:
        asyncio.run(take_over(chosen.directory, chosen.backend_url, tokens=tokens))
        return 0
    if asyncio.run(ship_stream(chosen.directory, tokens=tokens)):
        return 0
    log.error("%s ships %s", name_holder(chosen.directory / SHIPPER_LOCK), chosen.directory)
    return EXIT_LOCKED


if __name__ == "__main__":
    sys.exit(main())
