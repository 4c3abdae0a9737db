"""What the OpenAPI document says of operations."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket
from teleop_runtime.serving.openapi.document import Described, describe
from teleop_runtime.serving.openapi.schemas import Schemas, field_texts
from teleop_runtime.serving.operations import Answer, Bytes, Conversation, Header, Operation
from teleop_schema.errors import BadInput, BadMessage, Conflict, NotFound, SessionNotFound


class Query(Struct, forbid_unknown_fields=True):
    """Which things.

    limit     things of a page
    from, to  the first
              and the last
    """

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    from_thing: int = field(name="from", default=0)
    to_thing: Annotated[int, Meta(ge=0, examples=[5])] | None = field(name="to", default=None)
    colour: Literal["red", "blue"] | None = None


class Thing(Struct):
    """A thing.

    With a history.

    name  what it is called
    span  first, end
    """

    name: str
    span: tuple[int, int] = (0, 0)
    colour: Literal["red", "blue"] | None = None
    note: str | UnsetType = UNSET


class RareThing(Thing):
    """A thing of which there are few.

    name   what it was called once
    owner  who has it
    """

    owner: Annotated[str, Meta(pattern=r"^[a-z]+$(?!\n)")] | None = None


async def change_thing(_request: Request) -> Response:
    """Change a thing.

    More about it.
    """
    return Response()


async def listen(_websocket: WebSocket) -> None:
    """Hear of things."""


DESCRIBED = Described(
    tags={"things": "All things", "ws": "News"},
    names={"thing_id": Annotated[int, Meta(description="Number of the thing", examples=[4])]},
)
CHANGE = Operation(
    "PATCH",
    "/things/{thing_id:int}",
    change_thing,
    needs="operate",
    query=Query,
    headers=[Header("If-Match", "ETag of the thing", required=True)],
    body=Thing,
    example={"name": "x"},
    answers=[
        Answer(kind=RareThing, headers=[Header("ETag", "Its version")]),
        Answer(206, "Half of it", media={"application/octet-stream": Bytes}),
    ],
    errors=[NotFound, SessionNotFound, BadInput, BadMessage, Conflict],
)


def described(*operations: Operation, conversations: Any = ()) -> dict[str, Any]:
    return describe("example", operations, conversations, DESCRIBED)


@pytest.fixture
def operation() -> dict[str, Any]:
    """The operation CHANGE, as it is described."""
    return described(CHANGE)["paths"]["/things/{thing_id}"]["patch"]


def test_an_operation_says_what_it_does(operation):
    """Its first sentence is the summary, the rest the description."""
    access = "Where tokens are needed: one of the role operator or admin."
    assert operation["summary"] == "Change a thing."
    assert operation["description"] == f"More about it.\n\n{access}"
    assert (operation["operationId"], operation["tags"]) == ("change_thing", ["things"])


def test_parameters(operation):
    """Of the address, the query and the headers; each has its meaning, none can be null."""
    told = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert [(name, each["in"], each["required"]) for name, each in told.items()] == [
        ("thing_id", "path", True),
        ("limit", "query", False),
        ("from", "query", False),
        ("to", "query", False),
        ("colour", "query", False),
        ("If-Match", "header", True),
    ]
    assert (told["thing_id"]["description"], told["thing_id"]["example"]) == ("Number of the thing", 4)
    assert told["from"]["description"] == told["to"]["description"] == "the first and the last"
    assert told["to"]["schema"] == {"type": "integer", "format": "int64", "minimum": 0}
    assert told["to"]["example"] == 5
    assert told["colour"]["schema"] == {"type": "string", "enum": ["blue", "red"]}
    assert told["limit"]["schema"]["default"] == 100


def test_bodies(operation):
    """With their schema and an example."""
    content = operation["requestBody"]["content"]["application/json"]
    assert content == {"schema": {"$ref": "#/components/schemas/Thing"}, "example": {"name": "x"}}
    plain = Operation(
        "POST", "/things", change_thing, "operate", content={"text/plain": str}, may_be_empty=True
    )
    body = described(plain)["paths"]["/things"]["post"]["requestBody"]
    assert body == {"required": False, "content": {"text/plain": {"schema": {"type": "string"}}}}


def test_answers(operation):
    """Every one, with its headers."""
    responses = operation["responses"]
    assert responses["200"]["description"] == "A thing of which there are few."
    assert responses["200"]["headers"]["ETag"]["description"] == "Its version"
    assert responses["206"]["description"] == "Half of it"
    schema = responses["206"]["content"]["application/octet-stream"]["schema"]
    assert schema == {"type": "string", "format": "binary"}


def test_no_error_hides_another(operation):
    """All errors of one status are told, and those that every operation has."""
    codes = {
        status: [*answer["content"]["application/problem+json"]["examples"]]
        for status, answer in operation["responses"].items()
        if status >= "4"
    }
    assert codes == {
        "401": ["unauthorized"],
        "403": ["not_allowed", "forbidden", "https_needed"],
        "404": ["not_found", "session_not_found"],
        "408": ["too_slow"],
        "409": ["conflict"],
        "414": ["target_too_long"],
        "415": ["wrong_media_type"],
        "422": ["bad_input", "bad_message"],
        "429": ["rate_limited"],
        "500": ["internal_error"],
        "503": ["storage_unavailable", "overloaded"],
    }
    assert operation["responses"]["404"]["description"] == (
        "- `not_found`: What the request names does not exist.\n"
        "- `session_not_found`: There is no such session."
    )
    assert "Retry-After" in operation["responses"]["503"]["headers"]


def test_answers_to_head_have_no_content():
    """Not even those to errors."""
    head = Operation("HEAD", "/things", change_thing, "operate", answer=Thing)
    responses = described(head)["paths"]["/things"]["head"]["responses"]
    assert all("content" not in answer for answer in responses.values())


def test_websockets():
    """The handshake is a GET, and the messages are told in its answer."""
    told = described(
        conversations=[Conversation("/ws/{thing_id:int}", listen, "send", None, (), [Thing], [RareThing])]
    )
    upgraded = told["paths"]["/ws/{thing_id}"]["get"]["responses"]["101"]
    assert upgraded["content"]["application/json"]["schema"]["anyOf"] == [
        {"$ref": "#/components/schemas/Thing"},
        {"$ref": "#/components/schemas/RareThing"},
    ]


def test_fields_have_the_texts_of_the_docstring():
    """A child has those of its parents, but for fields that it describes itself."""
    prose, texts = field_texts(RareThing)
    assert prose == "A thing of which there are few."
    assert texts == {"name": "what it was called once", "span": "first, end", "owner": "who has it"}
    assert field_texts(Thing)[0] == "A thing.\n\nWith a history."


def test_schemas_are_plain():
    """A pair is a list of two; an enumeration has a type; a pattern is one of JavaScript, too."""
    components = Schemas([Thing], [RareThing]).components
    thing, rare = components["Thing"]["properties"], components["RareThing"]["properties"]
    integer = {"type": "integer", "format": "int64"}
    pair = {"type": "array", "items": integer, "minItems": 2, "maxItems": 2}
    assert thing["span"] == {**pair, "default": (0, 0), "description": "first, end"}
    assert thing["colour"]["anyOf"] == [{"type": "string", "enum": ["blue", "red"]}, {"type": "null"}]
    assert rare["owner"]["anyOf"] == [{"type": "string", "pattern": "^[a-z]+$"}, {"type": "null"}]
    assert thing["note"] == {"type": "string", "description": "Free text"}


def test_fields_of_forms_can_not_be_null():
    """There is no way to say it in a form."""
    thing = Schemas([Thing], [], [Thing]).components["Thing"]
    assert thing["properties"]["colour"] == {"type": "string", "enum": ["blue", "red"]}


def test_what_the_server_always_sends_is_required():
    """Though a client may leave it out."""
    components = Schemas([Thing], [RareThing]).components
    assert components["Thing"]["required"] == ["name"]
    assert components["RareThing"]["required"] == ["name", "span", "colour", "owner"]
    assert set(msgspec.to_builtins(RareThing("x"))) == set(components["RareThing"]["required"])


def test_pairs_of_different_things_are_refused():
    """No generator would know them."""
    with pytest.raises(ValueError, match="several types"):
        Schemas([tuple[int, str]], [])
