"""Why a connection of the shipper failed, and how long to wait before the next one. Pure."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec
from teleop_client.credentials import UnusableCredentials
from teleop_client.refusals import read_problem, read_retry_after
from teleop_client.unreachable import why_unreachable
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import BadMessage
from teleop_schema.words import shown
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.http11 import Response

from lerobot_robot_backend.shipping.protocol import NotBelieved, StreamRefused

# If a server can't be reached, or calls its refusal `retryable`, the next try comes soon, so that samples are
# safe soon after it works again. After any other refusal it comes later. Nothing is ever given up.
SOON_S = 5.0
LATE_S = 30.0

# Of a proxy's page; the reason, if there is one, is at its beginning.
_LONGEST_WORDS = 500

EXPECTED = (StreamRefused, NotBelieved, BadMessage, WebSocketException, OSError)


@dataclass(frozen=True)
class Trouble:
    """A reason why nothing can be sent.

    text       for people
    refused    the server answered, and accepts nothing of this stream for now
    longest_s  longest pause before the next try, in seconds
    least_s    for how long the server wants to hear nothing, in seconds
    """

    text: str
    refused: bool
    longest_s: float
    least_s: float = 0.0


def passing(text: str) -> Trouble:
    """Trouble after which to try again soon: the server can't be reached, or went away."""
    return Trouble(text, refused=False, longest_s=SOON_S)


def trouble_of(error: Exception, url: str) -> Trouble:
    """What `error` (one of EXPECTED) of a connection to the backend at `url` means."""
    found = _trouble_of(error, url)
    return replace(found, text=shown(found.text))


def _trouble_of(error: Exception, url: str) -> Trouble:
    match error:
        case StreamRefused():
            return Trouble(str(error), refused=True, longest_s=_longest_s(error.retryable))
        case InvalidStatus():
            return _refused_handshake(error.response)
        case NotBelieved():
            return Trouble(f"{url} is not trusted: {error}", refused=True, longest_s=LATE_S)
        # Whatever listens there answers otherwise: another program, or a proxy's page.
        case BadMessage() | InvalidHandshake():
            return Trouble(f"no telemetry server at {url}: {error}", refused=True, longest_s=LATE_S)
        case TimeoutError():
            return passing(f"{url} does not answer")
        # A person may put the token right at any moment, so it is looked at again soon.
        case UnusableCredentials():
            return Trouble(str(error), refused=True, longest_s=SOON_S)
        case OSError():
            return passing(f"{url}: {why_unreachable(error)}")
    return passing(f"{url}: {error}")


def _refused_handshake(response: Response) -> Trouble:
    """The server, or something in between, answered with an HTTP error; its own text, if it sent one."""
    body = bytes(response.body or b"")
    problem = read_problem(body)
    if problem is not None:
        words = str(problem)
    else:
        try:
            words = str(msgspec.json.decode(body, type=dict[str, Any])["detail"])
        except (*DECODE_ERRORS, KeyError):
            words = body.decode("utf-8", "replace").strip()
        words = words[:_LONGEST_WORDS]
    longest_s = _longest_s(None if problem is None else problem.retryable)
    text = f"the server refuses the connection with {response.status_code}" + (f": {words}" if words else "")
    least_s = 0.0 if problem is None else read_retry_after(response.headers.get("Retry-After"))
    return Trouble(text, refused=True, longest_s=longest_s, least_s=least_s)


def _longest_s(retryable: bool | None) -> float:
    return SOON_S if retryable else LATE_S
