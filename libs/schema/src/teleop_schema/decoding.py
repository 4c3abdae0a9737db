"""Where a message that can't be decoded is wrong."""

import re

import msgspec

# What msgspec raises over input; RecursionError is its answer to a depth bomb.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_PATH = re.compile(r" - at `(?:key` in `)?\$?\.?([^`]*)`$")
_FIELD = re.compile(r"field `([^`]+)`")


def field_of(error: Exception) -> str | None:
    """Path of the field that a decoding error speaks of, "events[0].kind"; None if it speaks of none."""
    text = str(error)
    path = _PATH.search(text)
    field = _FIELD.search(text)
    names = [match[1] for match in (path, field) if match and match[1]]
    return ".".join(names) or None
