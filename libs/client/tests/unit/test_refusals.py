"""What a client makes of the backend's refusals."""

import msgspec
import pytest
from msgspec import Struct
from teleop_client.refusals import OLDER_SERVER, Problem, may_pass, read_problem, read_retry_after
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


@pytest.mark.parametrize(
    "body", [b"", b"<html>404</html>", b"[]", b'{"type": "about:blank", "code": "x", "detail": "no"}']
)
def test_a_proxys_answer_is_not_the_backends(body):
    """Whatever it says: only the backend knows what it will never accept."""
    assert read_problem(body) is None
    assert may_pass(413, None)


@pytest.mark.parametrize("status", [400, 403, 409, 413, 415, 422, 429, 500, 503])
def test_the_backend_decides(status):
    """By its word; an older release, which has none, refuses for good what is wrong in the content."""

    def refusal(retryable):
        return Problem(type="urn:lerobot-backend:x", code="x", detail="no", retryable=retryable)

    assert may_pass(status, refusal(True))
    assert not may_pass(status, refusal(False))
    assert may_pass(status, refusal(None)) is (status in {403, 429, 500, 503})


def test_a_problem_in_one_line():
    """What is wrong, in which field, and what to do about it."""
    problem = Problem(type="t", code="c", detail="fps is 0", field="fps", hint="send more than 0")
    assert str(problem) == "fps is 0 (field fps); send more than 0"
    assert str(Problem(type="t", code="c", detail="no")) == "no"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("1", 1),
        (" 30 ", 30),
        ("86400", 120),
        ("-1", 0),
        ("soon", 0),
        ("1" * 400, 0),
        ("\u0663", 0),
    ],
)
def test_how_long_to_wait(header, seconds):
    """As the answer says, but no longer than data may wait because of one answer; dates are not read."""
    assert read_retry_after(header) == seconds
