"""Sends one stream of the spool to the server, connection after connection."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from ssl import SSLContext

from teleop_client.backoff import backoff_s
from teleop_client.credentials import Tokens
from teleop_schema.messages import SUBPROTOCOL, SUBPROTOCOLS, decode_server_control
from teleop_schema.words import counted
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol

from lerobot_robot_backend.shipping.protocol import Shipping, StreamErased
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.shipping.retention import prune_stream, seal_acknowledged
from lerobot_robot_backend.shipping.trouble import EXPECTED, passing, trouble_of
from lerobot_robot_backend.spool.erased import note_erased, read_erased
from lerobot_robot_backend.spool.stream import (
    SESSION_FILE,
    SpoolError,
    StreamProgress,
    read_progress,
    read_stream,
    write_progress,
)

LINGER_S = 1 / 6  # ten frames per message at 60 Hz, so that ten frames share the server's cost of a message
PING_S = 5.0  # a connection over a robot's wireless link dies without a word
PONG_S = 10.0  # with PING_S: a dead connection is noticed after 15 s
ANSWER_S = 60.0  # longest silence of the server while frames are not acknowledged
# An acknowledgement has tens of bytes, an error one sentence.
MAX_ANSWER_BYTES = 64 * 1024
# A server that is away for a night makes one line every ten minutes, not thousands.
REPEAT_LOG_S = 600.0

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
        # What was logged last, and when, by `time.monotonic`.
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
                log.info("complete: session %s, %s", shipping.session_id, counted(shipping.acked, "frame"))
                return
            welcomed = shipping.session_id is not None
            # A line that breaks after the welcome is no reason to wait longer; a refusal is.
            failures = 0 if welcomed and not (trouble and trouble.refused) else failures + 1
            if trouble is not None and not shipping.leaving:
                pause_s = backoff_s(failures, trouble.longest_s, self._jitter())
                await asyncio.sleep(max(trouble.least_s, pause_s))
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
            # Float arrays hardly shrink, and it would take time from the robot's own processes.
            compression=None,
            proxy=None,  # a robot connects to its backend directly, never through a proxy
            open_timeout=PING_S + PONG_S,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            # What is not acknowledged by then is sent again on the next connection anyway.
            close_timeout=1.0,
            max_size=MAX_ANSWER_BYTES,
            user_agent_header=None,
        ) as connection:
            # Something else speaks WebSocket there; it would not understand a single message.
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
                    # Everything there was is on its way: let frames gather instead of sending each by itself.
                    await asyncio.sleep(LINGER_S)
                continue
            # Nothing to send: wait for an answer, which opens the window, or for new frames.
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
                # Silence while nothing was asked is fine; the pings notice a dead connection.
                if shipping.is_waiting:
                    raise
                continue
            shipping.receive(decode_server_control(text))
            self._note(shipping, shipping.complaint)
            answered.set()

    def _note(self, shipping: Shipping, trouble: str | None) -> None:
        """Store the progress for the recording process, the next shipper, and the log."""
        # Before `welcome`, this server has confirmed nothing: what was noted last stays.
        acked = shipping.acked if shipping.session_id is not None else self._progress.next
        # Kept while the server has less than it once confirmed, so that it is told if the spool lost it, too.
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
            done = counted(progress.next, "frame")
            log.warning("%s; %s acknowledged, the rest is waiting on disk", trouble, done)
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
