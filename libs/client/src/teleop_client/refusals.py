"""Whether to retry after an answer that is not a success. Pure.

There is one rule, for HTTP and for WebSocket handshakes:

1. The backend decides, with `retryable` in its problem document.
2. A backend of an older release does not send `retryable`. Then answers about the content of a request are
   final, and all others are retried.
3. Answers of anybody else (a proxy with nothing behind it, or not set up yet; another server at that address)
   are always retried: a person fixes a proxy's 401, 403, 404 and 413, and time fixes 408, 429 and 502 to 504.
   Only the backend knows what it will never accept, so no recorded data is given up because of somebody
   else's answer.
"""

import re

import msgspec
from msgspec import Struct
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.words import shown

# The backend names its problems like this in all releases; nobody else does.
_OWN = "urn:lerobot-backend:"
# How every release refuses a field that it does not know.
_UNKNOWN = " is unknown"
OLDER_SERVER = "the server is older than this software: update the server"
# Nothing that a robot has recorded waits longer than this because of one answer.
MAX_RETRY_AFTER_S = 120.0
# Not understood, in conflict with stored data, too large, wrong media type, out of bounds.
_ABOUT_CONTENT = frozenset({400, 409, 413, 415, 422})


class Problem(Struct, frozen=True, kw_only=True):
    """A problem document of the backend, as far as a client needs it (RFC 9457).

    retryable  None: from an older release, which does not send it
    """

    type: str
    code: str
    detail: str
    field: str | None = None
    hint: str | None = None
    retryable: bool | None = None

    def __str__(self) -> str:
        """The problem in one line, for people."""
        field = f" (field {self.field})" if self.field else ""
        return self.detail + field + (f"; {self.hint}" if self.hint else "")


def read_problem(body: bytes) -> Problem | None:
    """The backend's problem document, fit for terminals and logs; None if the body is something else,
    because somebody else has answered."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except DECODE_ERRORS:
        return None
    if not problem.type.startswith(_OWN):
        return None
    hint = hint_for(problem.detail, problem.hint)
    return msgspec.structs.replace(
        problem,
        code=shown(problem.code),
        detail=shown(problem.detail),
        field=problem.field and shown(problem.field),
        hint=hint and shown(hint),
    )


def hint_for(detail: str, hint: str | None) -> str | None:
    """What to do about a refusal: as the server says, unless it refuses a field that it does not know.

    Our programs send no field that their own release does not know, so the server's release is an older one.
    """
    return OLDER_SERVER if detail.endswith(_UNKNOWN) else hint


def may_pass(status: int, problem: Problem | None) -> bool:
    """Whether to retry after an answer with that status and the body `problem`."""
    if problem is None:
        return True
    if problem.retryable is None:
        return status not in _ABOUT_CONTENT
    return problem.retryable


def read_retry_after(header: str | None) -> float:
    """Seconds that `Retry-After` asks to wait, up to MAX_RETRY_AFTER_S; 0 if it says none."""
    if header is None or not re.fullmatch(r"[0-9]{1,9}", header.strip(), re.ASCII):
        return 0.0
    return min(float(header), MAX_RETRY_AFTER_S)
