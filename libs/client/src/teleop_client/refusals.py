"""What an answer that is no success means to whoever asked: try again, or not. Pure.

There is one rule, for HTTP and for WebSocket handshakes:

1. The backend says it itself: `retryable` of its problem document.
2. A backend of a release that does not say it yet: what it answers about the content of a request stays, the
   rest may pass.
3. Anybody else (a proxy, with nothing behind it or not set up yet; another server at that address) is tried
   again, whatever it answers: 401, 403, 404 and 413 of a proxy are put right by a person, 408, 429 and 502 to
   504 by time. Nobody but the backend knows what the backend will never take, and what was recorded is not
   given up for the word of somebody else.
"""

import msgspec
from msgspec import Struct

# How the backend names its problems, in releases of any age; nobody else does.
_OWN = "urn:lerobot-backend:"
# Not understood, in conflict with what is stored, too large, of another kind, out of bounds.
_ABOUT_CONTENT = frozenset({400, 409, 413, 415, 422})


class Problem(Struct, frozen=True, kw_only=True):
    """A problem document of the backend, as far as a client needs it (RFC 9457).

    retryable  None: of a release that does not say it yet
    """

    type: str
    code: str
    detail: str
    field: str | None = None
    hint: str | None = None
    retryable: bool | None = None

    def __str__(self) -> str:
        """In one line, for people."""
        field = f" (field {self.field})" if self.field else ""
        return self.detail + field + (f"; {self.hint}" if self.hint else "")


def read_problem(body: bytes) -> Problem | None:
    """The backend's own problem document; None if the body is none: somebody else has answered."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        return None
    return problem if problem.type.startswith(_OWN) else None


def may_pass(status: int, problem: Problem | None) -> bool:
    """Whether to ask again after an answer of that status, whose body was `problem`."""
    if problem is None:
        return True
    if problem.retryable is None:
        return status not in _ABOUT_CONTENT
    return problem.retryable
