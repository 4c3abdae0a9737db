"""A robot as the tests need one: it speaks the acknowledged mode message by message."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from msgspec import UNSET, UnsetType
from teleop_schema import messages
from teleop_schema.messages import Ack, Batch, End, Ended, Event, Hello, ServerMessage, Welcome
from teleop_schema.session import SessionDescription
from websockets.asyncio import client
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S

STARTED_US = 1_763_860_000_000_000
PERIOD_US = 16_667

JOINTS = ("shoulder_pan.pos", "gripper.pos")


def description(**changes: Any) -> SessionDescription:
    """A session of two joints at 60 Hz."""
    values: dict[str, Any] = {
        "robot_type": "virtual_so101_follower",
        "fps": 60.0,
        "state_names": JOINTS,
        "action_names": JOINTS,
        "started_at_us": STARTED_US,
    }
    return SessionDescription(**values | changes)


def values_of(index: int) -> tuple[float, float, float, float]:
    """State and action of a frame, exact in float32 and different for every frame."""
    return (float(index), index + 0.25, index + 0.5, index + 0.75)


def batch(first: int, count: int = 1, **changes: Any) -> Batch:
    """Frames `first` to `first + count - 1`, each with the values of its index."""
    indexes = range(first, first + count)
    values: dict[str, Any] = {
        "first": first,
        "count": count,
        "timestamps": struct.pack(f"<{count}q", *(STARTED_US + index * PERIOD_US for index in indexes)),
        "state": b"".join(struct.pack("<2f", *values_of(index)[:2]) for index in indexes),
        "action": b"".join(struct.pack("<2f", *values_of(index)[2:]) for index in indexes),
    }
    return Batch(**values | changes)


class TestRobot:
    """One connection in acknowledged mode."""

    __test__ = False

    def __init__(self, connection: ClientConnection, stream: UUID) -> None:
        self.connection = connection
        self.stream = stream
        self.welcome: Welcome

    @classmethod
    @asynccontextmanager
    async def connected(
        cls,
        address: str,
        robot_id: str = "robot_A",
        *,
        stream: UUID | None = None,
        session: SessionDescription | None = None,
        secret: str | UnsetType = UNSET,
    ) -> AsyncIterator["TestRobot"]:
        """A robot that was welcomed."""
        async with dial(address, robot_id) as connection:
            robot = cls(connection, stream or uuid4())
            await robot.say(Hello(stream=robot.stream, session=session or description(), secret=secret))
            robot.welcome = await robot.hear(Welcome)
            yield robot

    async def say(self, message: messages.RobotMessage) -> None:
        await self.connection.send(messages.encode_control(message))

    async def send(self, frames: Batch) -> None:
        await self.connection.send(messages.encode_batch(frames))

    async def hear_any(self) -> ServerMessage:
        """Next message of the server."""
        async with asyncio.timeout(PATIENCE_S):
            return messages.decode_server_control(await self.connection.recv())

    async def hear[Kind](self, kind: type[Kind]) -> Kind:
        """Next message, which has to be of `kind`."""
        message = await self.hear_any()
        assert isinstance(message, kind), message
        return message

    async def acked(self, next_frame: int) -> None:
        """Wait until everything below `next_frame` is acknowledged."""
        while (await self.hear(Ack)).next < next_frame:
            pass

    async def finish(self, frames: int, **ending: Any) -> None:
        """End the session, and wait until the server has ended it."""
        await self.say(End(frames=frames, **ending))
        while not isinstance(await self.hear_any(), Ended):
            pass

    async def hears_nothing(self, for_s: float) -> None:
        """Fail if the server says anything within `for_s`."""
        try:
            async with asyncio.timeout(for_s):
                message = await self.connection.recv()
        except TimeoutError:
            return
        raise AssertionError(f"the server said {message!r}")


def dial(
    address: str, robot_id: str = "robot_A", subprotocols: Sequence[str] = (messages.SUBPROTOCOL,)
) -> client.connect:
    """A connection to `/ws/log/{robot_id}`, not yet greeted."""
    return connect(
        f"ws://{address}/ws/log/{robot_id}",
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        compression=None,
    )


async def record(
    service: str,
    robot_id: str = "robot_A",
    frames: int = 10,
    *,
    events: Sequence[Event] = (),
    batches: Sequence[Batch] = (),
    **session: Any,
) -> int:
    """A session that has ended; returns its id."""
    async with TestRobot.connected(service, robot_id, session=description(**session)) as robot:
        for one in batches or [batch(0, frames, events=events)]:
            await robot.send(one)
        await robot.finish(frames)
        return robot.welcome.session_id
