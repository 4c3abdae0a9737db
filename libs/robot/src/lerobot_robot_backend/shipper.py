"""Sends streams of the spool to the server: `python -m lerobot_robot_backend.shipper <stream dir>`.

Each stream has its own process. It outlives the recording, reconnects forever, and exits once the server has
confirmed the whole session. It may be killed at any moment: the next one sends what is on the disk.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from ssl import SSLContext

from teleop_client.backoff import backoff_s
from teleop_client.credentials import Tokens
from teleop_schema.messages import SUBPROTOCOL, SUBPROTOCOLS, decode_server_control
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol

from lerobot_robot_backend.shipping.commands import (
    EXIT_FAILED,
    EXIT_LOCKED,
    run_shipper,
    shipper_parser,
    tell_failure,
    tokens_for_all,
)
from lerobot_robot_backend.shipping.protocol import Shipping, StreamErased
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.shipping.retention import prune_spool, prune_stream, seal_acknowledged
from lerobot_robot_backend.shipping.trouble import EXPECTED, passing, trouble_of
from lerobot_robot_backend.spool.erased import note_erased, read_erased
from lerobot_robot_backend.spool.locks import is_locked, locked, name_holder
from lerobot_robot_backend.spool.stream import (
    SESSION_FILE,
    SHIPPER_LOCK,
    SpoolError,
    StreamProgress,
    left_by_server,
    read_progress,
    read_stream,
    send_to,
    write_progress,
)

LINGER_S = 1 / 6  # ten frames per message at 60 Hz, so that ten frames share the server's cost of a message
PING_S = 5.0  # a connection over a robot's wireless link dies without a word
PONG_S = 10.0  # with PING_S: a dead connection is noticed after 15 s
ANSWER_S = 60.0  # longest silence of the server while frames are not acknowledged
# An acknowledgement has tens of bytes, an error one sentence.
MAX_ANSWER_BYTES = 64 * 1024
# Streams left behind share one uplink with the stream that is being recorded.
CONCURRENT_STREAMS = 4
# A server that is away for a night makes one line every ten minutes, not thousands.
REPEAT_LOG_S = 600.0
# The holder of the lock releases it about a second after being asked.
TAKE_OVER_POLL_S = 0.5

log = logging.getLogger("lerobot_robot_backend.shipper")


class Shipper:
    """Sends one stream until the server has all of it."""

    def __init__(
        self,
        stream_dir: Path,
        *,
        backend_url: str | None = None,
        tokens: Tokens | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Raises SpoolError if the directory holds no stream.

        backend_url  send there; default: the address that the stream has at each connection
        """
        self._dir = stream_dir
        self._reader = SpoolReader(stream_dir)
        self._description = self._reader.description
        self._backend_url = backend_url
        self._url = self._address()
        self._tokens = tokens or Tokens()
        self._jitter = jitter
        self._progress = read_progress(stream_dir)
        self._logged: tuple[str, float] = "", 0.0
        self._unwritable: str | None = None
        self._damage_logged = 0

    async def run(self, slots: asyncio.Semaphore | None = None) -> None:
        """Return once the session is complete on the server, or is erased there for good.

        slots  limits how many connect at once

        Raises SpoolError if somebody removed the stream from the disk.
        """
        failures = 0
        while (self._dir / SESSION_FILE).exists():
            if read_erased(self._dir) is not None:
                return
            with suppress(SpoolError):  # no free file descriptors at the moment: keep the address from before
                self._url = self._address()
            known = self._progress
            shipping = Shipping(self._reader, self._description, known.next, known.once)
            trouble = None
            try:
                async with slots or nullcontext():
                    await self._connect(shipping)
                if not (shipping.ended or shipping.leaving):
                    trouble = passing("the server closed the connection")
            except StreamErased as error:
                self._note(shipping, str(error))
                note_erased(self._dir, str(error))
                return
            except EXPECTED as error:
                trouble = trouble_of(error, self._url)
            self._note(shipping, trouble.text if trouble else None)
            if shipping.ended:
                log.info("complete: session %s, %d frames", shipping.session_id, shipping.acked)
                return
            welcomed = shipping.session_id is not None
            # A line that breaks after the welcome is no reason to wait longer; a refusal is.
            failures = 0 if welcomed and not (trouble and trouble.refused) else failures + 1
            if trouble is not None and not shipping.leaving:
                await asyncio.sleep(backoff_s(failures, trouble.longest_s, self._jitter()))
        raise SpoolError(f"{self._dir} is gone: nothing in it can be shipped any more")

    def close(self) -> None:
        """Close the stream's files."""
        self._reader.close()

    def _address(self) -> str:
        """The stream's address, which may have been corrected since the last connection."""
        return self._backend_url or read_stream(self._dir).backend_url

    def _ssl(self) -> SSLContext | bool | None:
        """None: plain; True: a server that this machine trusts."""
        if not self._url.startswith("wss:"):
            return None
        return self._tokens.trust_for(self._url, self._description.robot_id) or True

    async def _connect(self, shipping: Shipping) -> None:
        """Speak over one connection until it ends, or the session is complete."""
        async with connect(
            f"{self._url}/ws/log/{self._description.robot_id}",
            subprotocols=[Subprotocol(each) for each in SUBPROTOCOLS],
            additional_headers=self._tokens.header_for(self._url, self._description.robot_id),
            ssl=self._ssl(),
            compression=None,
            proxy=None,  # a robot connects to its backend directly, never through a proxy
            open_timeout=PING_S + PONG_S,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            close_timeout=1.0,
            max_size=MAX_ANSWER_BYTES,
            user_agent_header=None,
        ) as connection:
            if connection.subprotocol is None:
                raise InvalidHandshake(f"it does not support {SUBPROTOCOL}")
            await connection.send(shipping.hello(connection.subprotocol))
            answered = asyncio.Event()
            sending = asyncio.create_task(self._send(connection, shipping, answered))
            receiving = asyncio.create_task(self._receive(connection, shipping, answered))
            try:
                await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                receiving.cancel()
                ends = await asyncio.gather(receiving, sending, return_exceptions=True)
            # The server's last message explains more than a failed send, so receiving comes first.
            for end in ends:
                if isinstance(end, Exception):
                    raise end

    async def _send(self, connection: ClientConnection, shipping: Shipping, answered: asyncio.Event) -> None:
        while True:
            message = shipping.next_message()
            self._log_damage()
            if message is not None:
                await connection.send(message)
                if shipping.is_caught_up:
                    await asyncio.sleep(LINGER_S)
                continue
            answered.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), LINGER_S)

    async def _receive(
        self, connection: ClientConnection, shipping: Shipping, answered: asyncio.Event
    ) -> None:
        while not (shipping.ended or shipping.leaving):
            try:
                text = await asyncio.wait_for(connection.recv(), ANSWER_S)
            except TimeoutError:
                if shipping.is_waiting:
                    raise
                continue
            shipping.receive(decode_server_control(text))
            self._note(shipping, shipping.complaint)
            answered.set()

    def _note(self, shipping: Shipping, trouble: str | None) -> None:
        """Store the progress for the recording process, the next shipper, and the log."""
        acked = shipping.acked if shipping.session_id is not None else self._progress.next
        once = max(self._progress.once, self._progress.next)
        progress = StreamProgress(
            next=acked,
            session_id=shipping.session_id or self._progress.session_id,
            ended=shipping.ended,
            trouble=trouble,
            once=once if once > acked else 0,
        )
        if progress.session_id != self._progress.session_id:
            log.info("session %s on %s, from frame %d on", progress.session_id, self._url, progress.next)
        if trouble and (trouble != self._logged[0] or time.monotonic() > self._logged[1] + REPEAT_LOG_S):
            log.warning("%s; %d frames are acknowledged, the rest is waiting on disk", trouble, progress.next)
            self._logged = trouble, time.monotonic()
        if progress != self._progress:
            self._progress = progress
            try:
                try:
                    write_progress(self._dir, progress)
                finally:  # on a full disk, too: removing what is confirmed makes the room for the next note
                    if seal_acknowledged(self._dir, progress.next, ended=progress.ended):
                        prune_stream(self._dir)
                self._unwritable = None
            except OSError as error:
                if error.strerror != self._unwritable:
                    self._unwritable = error.strerror
                    log.error("%s can't be written: %s; shipping continues", self._dir, error.strerror)

    def _log_damage(self) -> None:
        for what in self._reader.damage[self._damage_logged :]:
            log.error("%s; the server is being informed", what)
            self._damage_logged += 1


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
    """Send one stream to that server, even if another process is sending it;
    returns whether it was sent here.

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
        recordings = f"{shipped} recording{'' if shipped == 1 else 's'}"
        log.info(
            "shipped by this process: %s", recordings if shipped else f"nothing; {chosen.directory} is sent"
        )
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
