"""The shipper against a backend that misbehaves on command."""

import asyncio

import msgspec
import pytest
from lerobot_robot_backend.shipper import ship_all, ship_stream
from lerobot_robot_backend.shipping import sender, trouble
from lerobot_robot_backend.spool.stream import read_progress, send_to
from teleop_client import backoff
from teleop_client.credentials import Tokens
from teleop_schema.limits import Limits
from teleop_schema.messages import OLDEST_SUBPROTOCOL, Drain, ErrorMessage, Nack, encode_control
from teleop_testing.robots.spooled import JOINTS, expected_rows, log_frames, record
from teleop_testing.waiting import until
from websockets.asyncio.server import serve


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Tests do not wait as long as robots do."""
    monkeypatch.setattr(backoff, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(trouble, "LATE_S", 0.05)
    monkeypatch.setattr(sender, "LINGER_S", 0.01)


async def test_recording_arrives_whole(make_client, backend):
    """Frames, their times, extras, gaps and events arrive, then the end; the robot knows its session."""
    with make_client() as client:
        client.start_episode("pick")
        log_frames(client, 100)
        client.log(dict.fromkeys(JOINTS, 100.0), dict.fromkeys(JOINTS, -100.0), extra={"note": 1})
        with pytest.raises(ValueError, match="of type str, not a number"):
            client.log(dict.fromkeys(JOINTS, "far"), dict.fromkeys(JOINTS, 0.0))
        client.end_episode("success")
    assert await ship_stream(client.stream_dir)
    stream = backend.stream
    assert stream.rows == [*expected_rows(101), []]
    assert stream.timestamps == sorted(stream.timestamps)
    assert stream.extra == {100: {"note": 1}}
    assert stream.gaps == [(101, 1, "shoulder.pos is of type str, not a number")]
    assert [(event.kind, event.frame_index) for event in stream.told] == [
        ("episode_start", 0),
        ("episode_end", 102),
    ]
    assert stream.end.reason == "closed"
    assert client.drain(0.0) == 102
    assert client.session_id == stream.session_id


async def test_frames_arrive_while_they_are_recorded(make_client, backend):
    """Nothing waits for the end of the recording."""
    with make_client() as client:
        shipping = asyncio.create_task(ship_stream(client.stream_dir))
        for count in (1, 2, 3):
            log_frames(client, 1)
            await until(lambda count=count: client.acknowledged == count)
        assert not shipping.done()
    await shipping
    assert backend.stream.rows == expected_rows(3)


async def test_token_and_path(make_client, backend):
    """The robot names itself in the path and its token in a header, never in the address."""
    client = record(make_client, 1)
    await ship_stream(client.stream_dir, tokens=Tokens((backend.url, "secret")))
    (headers,) = backend.headers
    assert headers["path"] == "/ws/log/robot_A"
    assert headers["authorization"] == "Bearer secret"


async def test_a_token_goes_to_its_own_backend_only(make_client, backend):
    """A spool with recordings for several backends, sent with the token of one of them."""
    one, other = record(make_client, 1), record(make_client, 1)
    elsewhere = backend.url.replace("127.0.0.1", "localhost")
    send_to(other.stream_dir, elsewhere)
    assert await ship_all(one.spool_dir, tokens=Tokens((elsewhere, "secret"))) == 2
    hosts = {headers["host"].partition(":")[0]: headers.get("authorization") for headers in backend.headers}
    assert hosts == {"127.0.0.1": None, "localhost": "Bearer secret"}


async def test_lost_connections_lose_and_double_nothing(make_client, backend):
    """Whatever is cut off before or after it was stored is stored once."""
    backend.limits = Limits(max_frames=3, window_batches=4)

    async def script(connection, number, count, message):
        if number >= 10 or count < 1 + number % 4:
            return False
        if number % 2:
            await backend.answer(connection, backend.stream, message)
        connection.transport.abort()
        return True

    backend.script = script
    client = record(make_client, 60)
    await ship_stream(client.stream_dir)
    assert backend.connections >= 10
    assert backend.stream.rows == expected_rows(60)


async def test_nack_rewinds(make_client, backend):
    """A batch that got lost on the way is sent again from the spool."""
    backend.limits = Limits(max_frames=2)
    dropped = []

    async def script(connection, number, count, message):
        if count == 3 and not dropped:
            dropped.append(message)
            return True
        return False

    backend.script = script
    client = record(make_client, 20)
    await ship_stream(client.stream_dir)
    assert dropped
    assert backend.connections == 1
    assert backend.stream.rows == expected_rows(20)


async def test_drain_moves_to_another_connection(make_client, backend):
    """A replica that goes away is left at once, and the stream goes on where it was."""
    backend.limits = Limits(max_frames=2)

    async def script(connection, number, count, message):
        if number == 0 and count == 4:
            await connection.send(encode_control(Drain()))
        return False

    backend.script = script
    client = record(make_client, 20)
    await ship_stream(client.stream_dir)
    assert backend.connections == 2
    assert backend.stream.rows == expected_rows(20)


async def test_fatal_error_is_told_and_tried_again(make_client, backend):
    """What the server refuses is written where people look, and nothing is given up."""

    async def script(connection, number, count, message):
        if number < 2:
            await connection.send(encode_control(ErrorMessage("session_mismatch", "other names", fatal=True)))
            await connection.close(4408)
            return True
        return False

    backend.script = script
    client = record(make_client, 5)
    shipping = asyncio.create_task(ship_stream(client.stream_dir))
    await until(lambda: client.progress.trouble == "session_mismatch: other names")
    await shipping
    assert backend.stream.rows == expected_rows(5)


@pytest.mark.parametrize("body", ["no token\n", '{"code":"no_token","detail":"no token"}'])
async def test_http_refusal_is_told_with_its_words(make_client, backend, body):
    """A missing token is said with the server's own words."""
    refusals = []

    def refuse(connection, request):
        if len(refusals) < 2:
            refusals.append(request)
            return connection.respond(401, body)
        return None

    async with serve(
        backend.speak, "127.0.0.1", 0, subprotocols=["lerobot.telemetry.v1"], process_request=refuse
    ) as server:
        client = record(make_client, 1)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        shipping = asyncio.create_task(ship_stream(client.stream_dir, backend_url=url))
        await until(lambda: client.progress.trouble == "the server refuses the connection with 401: no token")
        await shipping
    assert client.progress.ended


@pytest.fixture
def pauses(monkeypatch):
    """The longest pause that was chosen before each next try; none is made."""
    chosen = []

    def choose(_failures, longest_s, _jitter):
        chosen.append(longest_s)
        return 0.0

    monkeypatch.setattr(sender, "backoff_s", choose)
    return chosen


@pytest.mark.parametrize(("retryable", "longest_s"), [(True, "SOON_S"), (False, "LATE_S"), (None, "LATE_S")])
async def test_how_soon_to_come_back_is_the_servers_word(make_client, backend, pauses, retryable, longest_s):
    """A refusal that may pass is asked about soon, another one later; none ends the shipping."""

    async def script(connection, number, count, message):
        if number < 3:
            refusal = ErrorMessage("of_a_later_release", "not now", fatal=True, retryable=retryable)
            await connection.send(encode_control(refusal))
            await connection.close(4000)
        return number < 3

    backend.script = script
    client = record(make_client, 5)
    await ship_stream(client.stream_dir)
    assert pauses == [getattr(trouble, longest_s)] * 3
    assert backend.stream.rows == expected_rows(5)


@pytest.mark.parametrize(
    ("status", "body", "longest_s"),
    [
        (503, {"type": "urn:lerobot-backend:storage_unavailable", "retryable": True}, "SOON_S"),
        (403, {"type": "urn:lerobot-backend:forbidden", "retryable": True}, "SOON_S"),
        (422, {"type": "urn:lerobot-backend:bad_robot_id", "retryable": False}, "LATE_S"),
        (503, {"type": "urn:lerobot-backend:storage_unavailable"}, "LATE_S"),
        (403, {"type": "about:blank", "retryable": True}, "LATE_S"),
        *((status, "<html>no</html>", "LATE_S") for status in (401, 403, 404, 408, 429, 502, 503, 504)),
    ],
)
async def test_a_refused_handshake_is_never_the_end(make_client, backend, pauses, status, body, longest_s):
    """The backend says how soon to come back; whoever else answers, the samples are kept, and sent later."""
    text = (
        body if isinstance(body, str) else msgspec.json.encode({**body, "code": "x", "detail": "no"}).decode()
    )
    asked = []

    def refuse(connection, request):
        asked.append(request)
        return connection.respond(status, text) if len(asked) <= 3 else None

    async with serve(
        backend.speak, "127.0.0.1", 0, subprotocols=[OLDEST_SUBPROTOCOL], process_request=refuse
    ) as server:
        client = record(make_client, 5)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await ship_stream(client.stream_dir, backend_url=url)
    assert pauses == [getattr(trouble, longest_s)] * 3
    assert backend.stream.rows == expected_rows(5)


async def test_what_is_no_telemetry_server_is_named(make_client, backend):
    """A WebSocket server that does not speak the protocol gets no samples."""
    async with serve(backend.speak, "127.0.0.1", 0) as server:
        client = record(make_client, 1)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        shipping = asyncio.create_task(ship_stream(client.stream_dir, backend_url=url))
        await until(lambda: "does not support lerobot.telemetry.v1" in (client.progress.trouble or ""))
        shipping.cancel()
        await asyncio.gather(shipping, return_exceptions=True)
    assert backend.streams == {}


async def test_server_restored_to_an_older_state_is_refilled(make_client, backend):
    """What the server once confirmed and has lost since is sent again, by request, from the kept segments."""
    client = record(make_client, 50)
    await ship_stream(client.stream_dir)
    stream = backend.stream
    stream.next, stream.rows, stream.end = 20, stream.rows[:20], None
    assert await ship_all(client.spool_dir) == 0
    assert await ship_all(client.spool_dir, refill=True) == 1
    assert stream.rows == expected_rows(50)
    assert stream.end.frames == 50


async def test_what_left_the_disk_is_a_gap(make_client, backend):
    """A server that lost what the spool no longer has is told which frames these are."""
    client = record(make_client, 5)
    await ship_stream(client.stream_dir)
    (client.stream_dir / "frames-000000.seg").unlink()
    backend.streams.clear()
    await ship_stream(client.stream_dir)
    assert backend.stream.rows == [[]] * 5
    assert backend.stream.gaps == [(0, 5, "the spool has lost the records of these frames")]
    assert backend.stream.end.frames == 5


async def test_killed_recorder_is_told_as_such(make_client, backend):
    """A recording without an end is ended by the shipper, with its reason."""
    client = make_client()
    log_frames(client, 5)
    client._upkeep.stop()
    client._writer._writer_lock.release()
    await ship_stream(client.stream_dir)
    assert backend.stream.rows == expected_rows(5)
    assert backend.stream.end.reason == "writer_died"


async def test_nack_storm_is_survived(make_client, backend):
    """Refusals that come for what was already under way do not send everything again each time."""
    backend.limits = Limits(max_frames=1)
    received = []

    async def script(connection, number, count, message):
        received.append(message)
        if 3 <= count < 10:
            await connection.send(encode_control(Nack(backend.stream.next)))
            return True
        return False

    backend.script = script
    client = record(make_client, 30)
    await ship_stream(client.stream_dir)
    assert backend.stream.rows == expected_rows(30)
    assert read_progress(client.stream_dir).ended


async def test_unreachable_server_is_named(make_client, backend, unused_tcp_port):
    """While nobody listens, the reason can be read, and the samples stay."""
    client = record(make_client, 1)
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    shipping = asyncio.create_task(ship_stream(client.stream_dir, backend_url=url))
    await until(lambda: url in (client.progress.trouble or ""))
    async with serve(backend.speak, "127.0.0.1", unused_tcp_port, subprotocols=["lerobot.telemetry.v1"]):
        await shipping
    assert backend.stream.rows == expected_rows(1)


@pytest.mark.parametrize("moved_to", [121, 2**32])
async def test_watermark_that_somebody_moved_is_not_believed(make_client, backend, moved_to):
    """A server that claims more than was logged here is sent nothing; all is kept, which `trouble` says."""
    with make_client() as client:
        log_frames(client, 100)
        shipping = asyncio.create_task(ship_stream(client.stream_dir))
        await until(lambda: client.acknowledged == 100)
        shipping.cancel()
        await asyncio.gather(shipping, return_exceptions=True)
        log_frames(client, 20)
    stored, backend.stream.next = backend.stream.next, moved_to
    shipping = asyncio.create_task(ship_stream(client.stream_dir))
    await until(lambda: "someone else wrote" in (read_progress(client.stream_dir).trouble or ""))
    progress = read_progress(client.stream_dir)
    assert (progress.next, progress.ended) == (100, False)
    # Set right again, the rest arrives.
    backend.stream.next = stored
    await shipping
    assert backend.stream.rows == expected_rows(120)
