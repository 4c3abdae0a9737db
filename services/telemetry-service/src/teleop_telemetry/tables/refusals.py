"""Frames of one session that the plain mode refused, counted by field and reason; pure."""

import msgspec
from msgspec import Struct
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import BackendError

# Further reasons are counted together, because invalid messages may each have a new one.
MAX_REASONS = 32
OTHER = "further reasons"


class Refusal(Struct):
    """Frames refused for one reason.

    number  position among the session's reasons, from 0
    field   path of the value that was wrong, "" if none was named
    """

    number: int
    field: str
    reason: str
    frames: int


class Refusals:
    """The refused frames of one session.

    changed  whether anything was added since it was last looked at
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Refusal] = {}
        self.changed = False

    def add(self, message: str | bytes, error: BackendError) -> None:
        """Count the frames of a message that was refused."""
        key = (_storable(error.field or ""), _storable(error.detail))
        if key not in self._found and len(self._found) >= MAX_REASONS:
            key = ("", OTHER)
        refusal = self._found.setdefault(key, Refusal(len(self._found), *key, 0))
        refusal.frames += frames_of(message)
        self.changed = True

    def all(self) -> list[Refusal]:
        """Every reason with its count, in order of first appearance."""
        return list(self._found.values())


def _storable(text: str) -> str:
    """The text without what PostgreSQL does not accept, because it may quote what was sent."""
    return text.replace("\0", "\\0").encode(errors="replace").decode()


def frames_of(message: str | bytes) -> int:
    """How many frames a message was meant to have: the length of an array, one for anything else."""
    if isinstance(message, bytes):
        return 1
    try:
        return max(1, len(msgspec.json.decode(message, type=list[msgspec.Raw])))
    except DECODE_ERRORS:
        return 1
