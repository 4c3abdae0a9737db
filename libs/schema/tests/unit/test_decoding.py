"""What is told of input that can't be decoded."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Struct
from teleop_schema.decoding import DECODE_ERRORS, explain, field_of, hint_of


class Place(Struct, forbid_unknown_fields=True):
    """Part of a message."""

    side: Literal["left", "right"]


class Example(Struct, forbid_unknown_fields=True, kw_only=True):
    """A message with a field of each kind."""

    repo_id: str
    fps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    share: float = 1.0
    public: bool = False
    names: Annotated[list[str], Meta(min_length=1)] | None = None
    notes: dict[Annotated[str, Meta(max_length=4)], str] = {}
    since: Annotated[datetime, Meta(tz=True)] | None = None
    stream: UUID | None = None
    place: Place | None = None
    extra: Any = None

    def __post_init__(self) -> None:
        if self.fps == 13:
            raise ValueError("unlucky: field `fps`")


NEEDED = "required: repo_id"
KNOWN = "one of repo_id, fps, share, public, names, notes, since, stream, place, extra"
A_TIME = "since must be a time like 2026-11-23T05:53:00Z"


@pytest.mark.parametrize(
    ("body", "told", "hint"),
    [
        ("{}", "repo_id is missing", NEEDED),
        ('{"repo_id": 1}', "repo_id must be a string, not a whole number", None),
        ('{"repo_id": null}', "repo_id must be a string, not null", None),
        ('{"speed": 1}', "speed is unknown", KNOWN),
        ('{"fps": "x"}', "fps must be a whole number or null, not a string", None),
        ('{"fps": 0}', "fps must be a whole number >= 1", None),
        ('{"fps": 99999}', "fps must be a whole number <= 1000", None),
        ('{"repo_id": "x", "fps": 13}', "fps: unlucky", None),
        ('{"share": "half"}', "share must be a number, not a string", None),
        ('{"share": 1e999}', "share is out of range", None),
        ('{"public": 1}', "public must be true or false, not a whole number", None),
        ('{"names": {}}', "names must be a list or null, not an object", None),
        ('{"names": []}', "names must be a list of length >= 1", None),
        ('{"names": ["a", 1]}', "names[1] must be a string, not a whole number", None),
        ('{"notes": {"front": "x"}}', "a key of notes must be a string of length <= 4", None),
        ('{"since": "soon"}', A_TIME, None),
        ('{"since": "2026-11-23T05:53:00"}', A_TIME, None),
        ('{"since": 5}', f"{A_TIME} or null, not a whole number", None),
        ('{"stream": "x"}', "stream must be a UUID", None),
        ('{"place": {}}', "place.side is missing", "required: side"),
        ('{"place": {"side": "up"}}', "place.side can't be 'up'", "one of left, right"),
        ("[]", "the body must be an object, not a list", None),
        ("{", "the body ends too early", None),
        ("{]", "the body is not valid JSON: object keys must be strings (byte 1)", None),
        (b'{"repo_id": "\xff"}', "the body is not UTF-8", None),
        ('{"extra":' + "[" * 100_000, "the body is nested too deeply", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistake_is_told_in_words(body, told, hint):
    """With the name of the field, and none of the decoder's own."""
    with pytest.raises(DECODE_ERRORS) as caught:
        msgspec.json.decode(body, type=Example)
    field = field_of(caught.value)
    assert (explain(caught.value, field or "the body"), hint_of(caught.value, Example)) == (told, hint)
