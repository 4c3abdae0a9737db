"""Why a connection failed, and how long to wait."""

import msgspec
import pytest
from lerobot_robot_backend.shipping.trouble import trouble_of
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

PROBLEM = {"type": "urn:lerobot-backend:x", "code": "x", "detail": "not\x1b[2J now", "retryable": True}


def refused(body: bytes, **headers: str) -> InvalidStatus:
    return InvalidStatus(Response(429, "x", Headers(headers), body))


@pytest.mark.parametrize(
    ("header", "least_s"), [({}, 0), ({"Retry-After": "7"}, 7), ({"Retry-After": "x"}, 0)]
)
def test_the_backend_says_how_long_to_wait(header, least_s):
    """Somebody else who answers there does not."""
    trouble = trouble_of(refused(msgspec.json.encode(PROBLEM), **header), "ws://x")
    assert (trouble.least_s, trouble.refused) == (least_s, True)
    assert trouble_of(refused(b"<html>", **header), "ws://x").least_s == 0


def test_a_server_draws_nothing_on_the_terminal():
    """Neither in an answer, of whatever form, nor in the reason of a close."""
    said = [
        refused(msgspec.json.encode(PROBLEM)),
        refused(b'{"detail": "a\\u001bb"}'),
        refused(b"a\nb\x1b[2J"),
    ]
    said.append(ConnectionClosedError(Close(1011, "a\nb\x1b[2J"), None))
    for error in said:
        text = trouble_of(error, "ws://x").text
        assert text.isprintable()
        assert r"\x1b" in text
