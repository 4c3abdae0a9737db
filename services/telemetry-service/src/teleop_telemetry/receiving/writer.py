"""One connection's place in the batcher, and the results for its frames."""

import asyncio

from teleop_schema.limits import MAX_MESSAGE_BYTES

from teleop_telemetry.frames.block import FrameBlock

# One message of the largest size while another is in flight. A limit on the number of messages would
# throttle robots that send frame by frame.
MAX_WAITING_BYTES = MAX_MESSAGE_BYTES


class Writer:
    """Writes to one session in one epoch.

    submitted  one past the last frame handed to the batcher
    committed  every frame below it is durable
    failure    why nothing of this connection will be stored any more
    waiting    blocks that are not in a commit yet
    in_flight  whether a commit has frames of it; its next commit begins only after that
    owes_ack   whether `committed` must be sent
    changed    set when there is something to send, or `failure` has changed
    has_room   set while the batcher accepts another block from it
    """

    def __init__(self, session_id: int, epoch: int, next_frame: int) -> None:
        self.session_id = session_id
        self.epoch = epoch
        self.submitted = next_frame
        self.committed = next_frame
        self.failure: Exception | None = None
        self.waiting: list[FrameBlock] = []
        self.waiting_bytes = 0
        self.in_flight = False
        self.owes_ack = False
        self.changed = asyncio.Event()
        self.has_room = asyncio.Event()
        self.has_room.set()
        self._settled = asyncio.Event()

    def hold(self, block: FrameBlock) -> None:
        """Keep a block until a commit takes it."""
        self.waiting.append(block)
        self.waiting_bytes += block.size_bytes
        self.submitted = block.end
        if self.waiting_bytes >= MAX_WAITING_BYTES:
            self.has_room.clear()

    def take(self) -> list[FrameBlock]:
        """Every waiting block, for a commit that begins now."""
        blocks, self.waiting = self.waiting, []
        # Only what waits counts here; the batcher counts what is in a commit, too.
        self.waiting_bytes = 0
        self.in_flight = True
        self.has_room.set()
        return blocks

    def succeed(self, next_frame: int) -> None:
        """Everything below `next_frame` is durable."""
        self.committed = max(self.committed, next_frame)
        self.tell_again()
        self._settled.set()

    def tell_again(self) -> None:
        """Have `committed` sent, even if it was sent before."""
        self.owes_ack = True
        self.changed.set()

    def fail(self, error: Exception) -> None:
        """Nothing of this connection will be stored any more; the first reason is the one that counts."""
        self.failure = self.failure or error
        self.changed.set()
        self._settled.set()

    async def settled(self) -> None:
        """Return once everything submitted is durable; raises the failure if it never will be."""
        while self.failure is None and self.committed < self.submitted:
            # Cleared before the wait, in one step of the loop: a success can't come in between.
            self._settled.clear()
            await self._settled.wait()
        if self.failure is not None:
            raise self.failure
