"""Reading requests."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct, field
from starlette.requests import Request
from teleop_runtime.serving.operations import MAX_JSON_BYTES, read_body, read_query
from teleop_schema.errors import BadInput, BodyTooLarge, WrongMediaType


class Query(Struct, forbid_unknown_fields=True):
    """Query parameters of an example."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    status: Literal["open", "closed"] | None = None
    from_frame: int = field(name="from", default=0)
    tags: list[str] = []
    since: Annotated[datetime, Meta(tz=True)] | None = None


class Place(Struct, forbid_unknown_fields=True):
    """Part of the body."""

    side: Literal["left", "right"]


class Body(Struct, forbid_unknown_fields=True):
    """Body of an example."""

    note: str
    names: list[str] = []
    moods: frozenset[Literal["good", "bad"]] = frozenset()
    place: Place | None = None


def request(query: str = "", body: bytes = b"", media_type: str = "application/json") -> Request:
    """A request as a server hands it over, its body in two parts."""
    messages = [
        {"type": "http.request", "body": body[: len(body) // 2], "more_body": True},
        {"type": "http.request", "body": body[len(body) // 2 :]},
    ]

    async def receive() -> dict:
        return messages.pop(0)

    headers = [(b"content-type", media_type.encode())] if media_type else []
    scope = {"type": "http", "query_string": query.encode(), "headers": headers, "path": "/", "method": "GET"}
    return Request(scope, receive)


def test_query_is_read():
    """Parameters become typed values; the rest keeps its default."""
    assert read_query(request("limit=5&from=7&tags=a&tags=b"), Query) == Query(5, None, 7, ["a", "b"])
    assert read_query(request(), Query) == Query()
    time = datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert read_query(request("since=2026-01-05T10:00:00Z"), Query) == Query(since=time)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1000000000", "limit"),
        ("limit=many", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("status=ajar", "status"),
        ("from=1.5", "from"),
        ("speed=1", "speed"),
        ("status=a%00b", "status"),
        ("status=null", "status"),
        ("since=0.5", "since"),
        ("since=1900000000", "since"),
        ("since=2026-01-05T10:00:00", "since"),
    ],
)
def test_bad_query_names_the_parameter(query, field):
    """A parameter that can't be understood is refused by its name."""
    with pytest.raises(BadInput) as caught:
        read_query(request(query), Query)
    assert caught.value.field == field


async def test_body_is_read():
    """A JSON body becomes a typed value."""
    assert await read_body(request(body=b'{"note": "x"}'), Body) == Body("x")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/merge-patch+json",
        # Clients that say nothing, and curl, which says this of whatever it is given.
        "",
        "application/x-www-form-urlencoded",
    ],
)
async def test_json_may_be_called_so(media_type):
    """Or by the names that clients give what they were not told of."""
    assert await read_body(request(body=b'{"note": "x"}', media_type=media_type), Body) == Body("x")


@pytest.mark.parametrize("media_type", ["text/plain", "multipart/form-data; boundary=x", "json", "x" * 5000])
async def test_what_is_called_otherwise_is_refused(media_type):
    """With what to call it."""
    with pytest.raises(WrongMediaType) as caught:
        await read_body(request(body=b'{"note": "x"}', media_type=media_type), Body)
    assert (caught.value.status, caught.value.field) == (415, "Content-Type")
    assert caught.value.hint == "send application/json"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b'{"note": "x"} y', None),
        (b'\xef\xbb\xbf{"note": "x"}', None),
        (b'{"note": "\xff"}', None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b"{}", "note"),
        (b'{"note": 1}', "note"),
        (b'{"note": null}', "note"),
        (b'{"note": "x", "speed": 1}', "speed"),
        (b'{"note": "x", "names": ["a", 1]}', "names[1]"),
    ],
)
async def test_bad_body_names_the_field(body, field):
    """A body that can't be understood is refused, with the field where there is one."""
    with pytest.raises(BadInput) as caught:
        await read_body(request(body=body), Body)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", "send JSON; see /openapi.json"),
        (b'{"note": "x", "speed": 1}', "one of note, names, moods, place"),
        (b'{"note": "x", "moods": ["good", "odd"]}', "one of bad, good"),
        (b'{"note": "x", "place": {"side": "up"}}', "one of left, right"),
        (b'{"note": "x", "place": {"height": 1}}', "one of side"),
        (b'{"note": 1}', None),
    ],
)
async def test_bad_body_is_told_what_could_stand_there(body, hint):
    """Where there are a few right answers, they are named."""
    with pytest.raises(BadInput) as caught:
        await read_body(request(body=body), Body)
    assert caught.value.hint == hint


def test_bad_query_is_told_what_could_stand_there():
    """Of parameters, too."""
    with pytest.raises(BadInput) as caught:
        read_query(request("status=ajar"), Query)
    assert caught.value.hint == "one of closed, open"


async def test_body_over_the_limit_is_refused():
    """Reading stops at the limit."""
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(request(body=b'{"note": "' + b"x" * MAX_JSON_BYTES + b'"}'), Body)
    assert caught.value.limit == MAX_JSON_BYTES
