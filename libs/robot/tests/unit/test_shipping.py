"""The sans-I/O core against a model of the server, over every order of events that hypothesis finds."""

from collections import deque
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lerobot_robot_backend.shipping.protocol import NotBelieved, Shipping, StreamRefused
from lerobot_robot_backend.spool.stream import StreamEnd, StreamFile
from msgspec import UNSET
from msgspec.structs import replace
from teleop_schema.errors import BadMessage
from teleop_schema.limits import Limits
from teleop_schema.messages import (
    SUBPROTOCOL,
    SUBPROTOCOL_1_1,
    SUBPROTOCOL_1_3,
    Ack,
    Batch,
    Drain,
    End,
    Ended,
    ErrorMessage,
    Event,
    Nack,
    Welcome,
    decode_batch,
    decode_robot_control,
)
from teleop_schema.session import SessionDescription

LIMITS = Limits(max_message_bytes=4096, max_frames=4, window_batches=3, window_bytes=2000)
SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=(), started_at_us=0)
DESCRIPTION = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)


class Source:
    """A stream in memory: `frames` frames so far, over once `closed`."""

    def __init__(self, frames: int = 0, *, closed: bool = False) -> None:
        self.frames, self.closed, self.next_index = frames, closed, 0

    def seek(self, index: int) -> None:
        self.next_index = index

    def read(self, limits: Limits) -> Batch | None:
        count = min(limits.max_frames, self.frames - self.next_index)
        if count <= 0:
            return None
        batch = Batch(first=self.next_index, count=count, timestamps=bytes(8 * count), state=bytes(4 * count))
        self.next_index += count
        return batch

    def furthest(self) -> int:
        return self.frames

    @property
    def end(self) -> StreamEnd | None:
        over = self.closed and self.next_index >= self.frames
        return StreamEnd(self.next_index, "closed", ()) if over else None


def welcomed(source: Source, next_index: int = 0, limits: Limits = LIMITS) -> Shipping:
    shipping = Shipping(source, DESCRIPTION, next_index)
    shipping.receive(Welcome(7, 1, next_index, limits))
    return shipping


def sent_firsts(shipping: Shipping) -> list[int]:
    """First indexes of all batches that can be sent now."""
    firsts = []
    while isinstance(message := shipping.next_message(), bytes):
        firsts.append(decode_batch(message, LIMITS).first)
    return firsts


@pytest.mark.parametrize(("subprotocol", "known"), [(SUBPROTOCOL, True), (SUBPROTOCOL_1_1, False)])
def test_an_older_server_is_not_told_of_a_pause_that_lasts(subprotocol, known):
    """It would refuse the batch, and with it the recording; it learns of the pause once that has ended."""
    about = {"kind": "episode_pause", "frame_index": 2, "episode_index": 0}
    lasting, over = Event(**about), Event(**about, end_frame=4)

    class Paused(Source):
        def read(self, limits):
            batch = super().read(limits)
            return None if batch is None else replace(batch, events=(lasting, over))

        @property
        def end(self):
            return StreamEnd(4, "writer_died", (lasting, over))

    source = Paused(4)
    shipping = Shipping(source, DESCRIPTION, 0)
    shipping.hello(subprotocol)
    shipping.receive(Welcome(7, 1, 0, LIMITS))
    batch = decode_batch(shipping.next_message(), LIMITS)
    shipping.receive(Ack(4))
    end = decode_robot_control(shipping.next_message())
    assert batch.events == end.events == ((lasting, over) if known else (over,))


@pytest.mark.parametrize(("subprotocol", "known"), [(SUBPROTOCOL, True), (SUBPROTOCOL_1_3, False)])
def test_an_older_server_is_not_told_who_drives(subprotocol, known):
    """It would refuse the session, and with it the recording."""
    description = replace(DESCRIPTION, session=replace(DESCRIPTION.session, operator="kim"), secret="s" * 22)
    hello = decode_robot_control(Shipping(Source(1), description, 0).hello(subprotocol))
    assert hello.session.operator == ("kim" if known else UNSET)
    assert hello.secret == description.secret
    assert "operator" not in Shipping(Source(1), DESCRIPTION, 0).hello()


def test_nothing_is_sent_before_welcome():
    """The server says first from where on, and how much."""
    shipping = Shipping(Source(10), DESCRIPTION, 3)
    assert shipping.next_message() is None
    assert decode_robot_control(shipping.hello()).first_unacked == 3


def test_window_of_batches_is_kept():
    """No more batches are under way than the server wants."""
    shipping = welcomed(Source(100))
    assert sent_firsts(shipping) == [0, 4, 8]
    shipping.receive(Ack(8))
    assert sent_firsts(shipping) == [12, 16]


def test_window_of_bytes_is_kept():
    """No more bytes are under way than the server wants, but for the one batch that passes the mark."""
    shipping = welcomed(Source(100), limits=Limits(4096, 4, 64, 150))
    assert sent_firsts(shipping) == [0, 4]


def test_welcome_decides_where_to_begin():
    """The server's watermark counts, also below what was acknowledged once."""
    source = Source(10)
    shipping = Shipping(source, DESCRIPTION, 9)
    shipping.receive(Welcome(7, 2, 4, LIMITS))
    assert shipping.acked == 4
    assert sent_firsts(shipping) == [4, 8]


def test_nack_rewinds_once():
    """The refusals of what was already under way behind a hole do not rewind again."""
    shipping = welcomed(Source(100))
    sent_firsts(shipping)
    shipping.receive(Nack(4))
    shipping.receive(Nack(4))
    assert sent_firsts(shipping) == [4, 8, 12]
    shipping.receive(Nack(4))
    assert sent_firsts(shipping) == []
    shipping.receive(Ack(8))
    shipping.receive(Nack(4))
    assert sent_firsts(shipping) == [4, 8, 12]


def test_end_waits_for_the_last_ack():
    """`end` is told once everything is acknowledged, and only once."""
    shipping = welcomed(Source(3, closed=True))
    assert sent_firsts(shipping) == [0]
    assert shipping.next_message() is None
    shipping.receive(Ack(3))
    assert decode_robot_control(shipping.next_message()) == End(3)
    assert shipping.next_message() is None
    shipping.receive(Ended(3))
    assert shipping.ended


def test_end_counts_what_only_the_server_still_has():
    """Frames acknowledged before a power loss took them from the spool stay part of the session."""
    shipping = welcomed(Source(3, closed=True), next_index=5)
    assert decode_robot_control(shipping.next_message()).frames == 5


def test_drain_stops_sending():
    """A server that goes away gets nothing more on this connection."""
    shipping = welcomed(Source(10))
    shipping.receive(Drain())
    assert shipping.leaving
    assert shipping.next_message() is None


def test_fatal_error_is_told_with_its_text():
    """What the server does not take is said with its own words; a complaint alone stops nothing."""
    shipping = welcomed(Source(10))
    shipping.receive(ErrorMessage("bad_message", "strange extra", fatal=False))
    assert shipping.complaint == "bad_message: strange extra"
    with pytest.raises(StreamRefused, match=r"session_mismatch: other names \(state_names\); start anew"):
        shipping.receive(ErrorMessage("session_mismatch", "other names", True, "state_names", "start anew"))


def test_a_field_that_an_older_server_does_not_know():
    """What to do about it is to update the server, not to choose among the fields that it knows."""
    refused = ErrorMessage("bad_message", "columns is unknown", True, "columns", "one of stream, session")
    with pytest.raises(StreamRefused, match=r"\(columns\); the server is older .*: update the server$"):
        welcomed(Source(10)).receive(refused)


@pytest.mark.parametrize("message", [Ack(1), Nack(0), Ended(0)])
def test_answers_before_welcome_are_refused(message):
    """Before `welcome` nothing else makes sense."""
    with pytest.raises(BadMessage):
        Shipping(Source(1), DESCRIPTION, 0).receive(message)


@pytest.mark.parametrize("answer", [Ack(5), Nack(5), Ack(2**40), Nack(2**40), Ended(10), Ended(2**40)])
def test_answer_beyond_what_was_sent_is_not_believed(answer):
    """A server that confirms the future, or wants it, changes nothing here."""
    source = Source(10)
    shipping = welcomed(source)
    assert sent_firsts(shipping) == [0, 4, 8]
    shipping.receive(Ack(4))
    source.next_index = 4
    with pytest.raises(NotBelieved):
        shipping.receive(answer)
    assert (shipping.acked, source.next_index, shipping.ended) == (4, 4, False)


@pytest.mark.parametrize("claimed", [11, 2**32])
def test_welcome_beyond_what_was_logged_is_not_believed(claimed):
    """A server whose watermark somebody has moved is told nothing, and confirms nothing."""
    source = Source(10)
    shipping = Shipping(source, DESCRIPTION, 3)
    with pytest.raises(NotBelieved, match=f"the server has {claimed} frames.*at most 10"):
        shipping.receive(Welcome(7, 1, claimed, LIMITS))
    assert (shipping.acked, shipping.session_id, shipping.next_message()) == (3, None, None)
    assert source.next_index == 0


def test_welcome_may_know_more_than_was_acknowledged():
    """An acknowledgement that was lost with its connection is learned from the next welcome."""
    shipping = Shipping(Source(10), DESCRIPTION, 3)
    shipping.receive(Welcome(7, 1, 10, LIMITS))
    assert shipping.acked == 10


def test_end_at_another_number_is_not_believed():
    """The session ends where the robot said."""
    shipping = welcomed(Source(3, closed=True))
    sent_firsts(shipping)
    shipping.receive(Ack(3))
    shipping.next_message()
    for frames in (2, 4):
        with pytest.raises(NotBelieved):
            shipping.receive(Ended(frames))
    assert not shipping.ended


def test_complaint_is_over_with_the_next_acknowledgement():
    """What the server complained of no longer stands once frames are stored again."""
    shipping = welcomed(Source(10))
    sent_firsts(shipping)
    shipping.receive(ErrorMessage("no_space", "the disk is full", fatal=False))
    shipping.receive(Ack(0))
    assert shipping.complaint
    shipping.receive(Ack(4))
    assert shipping.complaint is None


def test_frame_larger_than_any_message_becomes_a_gap():
    """What no message can hold is named, and the stream goes on."""
    shipping = welcomed(Source(1), limits=Limits(40, 1, 3, 2000))
    batch = decode_batch(shipping.next_message(), LIMITS)
    assert (batch.first, batch.count) == (0, 1)
    assert "the server accepts 40" in batch.gap


class Conversation(RuleBasedStateMachine):
    """A robot that writes on, and a server that commits when it likes, refuses, and loses its connections."""

    @initialize()
    def start(self) -> None:
        self.source = Source()
        self.committed: list[int] = []
        self.under_way: deque[str | bytes] = deque()
        self.complete = False
        self.connect()

    @rule()
    def connect(self) -> None:
        self.under_way.clear()
        self.shipping = welcomed(self.source, len(self.committed))
        self.acknowledged = len(self.committed)

    @rule(count=st.integers(1, 9))
    @precondition(lambda self: not self.source.closed)
    def write(self, count: int) -> None:
        self.source.frames += count

    @rule()
    def close(self) -> None:
        self.source.closed = True

    @rule()
    def send(self) -> None:
        if (message := self.shipping.next_message()) is not None:
            self.under_way.append(message)

    @rule()
    @precondition(lambda self: self.under_way and isinstance(self.under_way[0], bytes))
    def lose_one(self) -> None:
        """A message that the server drops, as behind a hole."""
        self.under_way.popleft()

    @rule(answer=st.booleans())
    @precondition(lambda self: self.under_way)
    def take(self, answer: bool) -> None:
        message = self.under_way.popleft()
        if isinstance(message, str):
            assert decode_robot_control(message).frames == len(self.committed) == self.source.frames
            self.shipping.receive(Ended(len(self.committed)))
            self.complete = True
            return
        batch = decode_batch(message, LIMITS)
        if batch.first > len(self.committed):
            self.shipping.receive(Nack(len(self.committed)))
            return
        self.committed += range(len(self.committed), batch.end)
        if answer:
            self.acknowledge()

    @rule()
    def acknowledge(self) -> None:
        self.acknowledged = len(self.committed)
        self.shipping.receive(Ack(self.acknowledged))

    @invariant()
    def acknowledged_is_committed(self) -> None:
        if hasattr(self, "shipping"):
            assert self.shipping.acked <= len(self.committed)
            assert len(self.under_way) <= LIMITS.window_batches + 1

    def teardown(self) -> None:
        """Once the faults stop and the connection is fresh, everything arrives."""
        if not hasattr(self, "shipping") or self.complete:
            return
        self.connect()
        self.source.closed = True
        for _ in range(3 * self.source.frames + 10):
            self.send()
            if self.under_way:
                self.take(answer=True)
        assert self.complete
        assert self.committed == list(range(self.source.frames))


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
