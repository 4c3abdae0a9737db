"""What a client makes of the backend's refusals."""

import msgspec
import pytest
from msgspec import Struct
from teleop_client.refusals import OLDER_SERVER, read_problem
from teleop_schema.decoding import explain, field_of, hint_of


class Known(Struct, forbid_unknown_fields=True):
    """What an older server knows."""

    name: str = ""


def problem_of(body: bytes) -> bytes:
    """The answer of a server that does not take `body`, in the words that every release has for it."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=Known)
    field = field_of(caught.value)
    told = {"detail": explain(caught.value, field), "field": field, "hint": hint_of(caught.value, Known)}
    return msgspec.json.encode({"type": "urn:lerobot-backend:bad_input", "code": "bad_input", **told})


def test_a_field_of_a_newer_release():
    """The server that does not know it is to be updated; its list of known fields helps nobody."""
    problem = read_problem(problem_of(b'{"speed": 1}'))
    assert str(problem) == f"speed is unknown (field speed); {OLDER_SERVER}"


def test_other_refusals_keep_their_own_hint():
    """Here none: the value is wrong."""
    assert read_problem(problem_of(b'{"name": 1}')).hint is None
