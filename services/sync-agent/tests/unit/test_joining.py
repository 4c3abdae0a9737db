import pytest
from teleop_client.credentials import Credential
from teleop_sync_agent.joining import Line, read_line, with_credential

POOL = "lrb_pool_abc_def"
PIN = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lrb://host:8000/?code=K7QF-2M9P", Line("ws://host:8000", "K7QF-2M9P")),
        (" lrb://host:8000?code=K7QF-2M9P\n", Line("ws://host:8000", "K7QF-2M9P")),
        ("lrb://[fd00::1]:8000/?code=K7QF-2M9P", Line("ws://[fd00::1]:8000", "K7QF-2M9P")),
        ("lrbs://far.example/robots/?code=K7QF-2M9P", Line("wss://far.example/robots", "K7QF-2M9P")),
        (f"lrbs://10.0.0.5:8000/?code=K7QF-2M9P&pin={PIN}", Line("wss://10.0.0.5:8000", "K7QF-2M9P", PIN)),
        (f"lrb://host:8000/?pool={POOL}", Line("ws://host:8000", None, None, POOL)),
        (f"lrbs://host/?pool={POOL}&pin={PIN}", Line("wss://host", None, PIN, POOL)),
    ],
)
def test_a_line_names_the_backend_and_the_code(text, line):
    """As people copy it, below a path and with TLS too."""
    assert read_line(text) == line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not an enrolment line; expected"),
        ("K7QF-2M9P", "is not an enrolment line; expected"),
        ("http://host:8000/?code=K7QF-2M9P", "is not an enrolment line; expected"),
        ("lrb://host:8000/", "has no code; expected"),
        ("lrb://host:8000/?code=", "has no code; expected"),
        ("lrb://host:8000/?code=a&code=b", "has no code; expected"),
        ("lrb://host:8000/?pool=", "has no code; expected"),
        (f"lrb://host:8000/?code=K7QF-2M9P&pool={POOL}", "has no code; expected"),
        ("lrb://host:8000/?code=K7QF-2M9P&way=2", "does not know 'way' in the line: update it"),
        ("lrbs://host:8000/?code=K7QF-2M9P&pin=00", "its pin is damaged"),
        (f"lrbs://host:8000/?code=K7QF-2M9P&pin={PIN}&pin={PIN}", "its pin is damaged"),
        (f"lrb://host:8000/?code=K7QF-2M9P&pin={PIN}", "its pin is damaged"),
        ("lrb://host:80000/?code=K7QF-2M9P", "Port out of range"),
        ("lrb:///?code=K7QF-2M9P", "is not the address of a backend"),
        ("lrb://user:secret@host/?code=K7QF-2M9P", "must not have a user"),
    ],
)
def test_another_text_is_refused(text, told):
    """With the reason, and what such a line looks like."""
    with pytest.raises(ValueError, match=told):
        read_line(text)


def test_a_new_token_takes_the_place_of_the_old_one():
    """Of the same robot and backend, however its address was written; the others stay."""
    old = Credential(backend_url="ws://host:80", robot_id="robot_A", token="lrb_robot_a")
    others = (
        Credential(backend_url="ws://host:80", robot_id="robot_B", token="lrb_robot_b"),
        Credential(backend_url="wss://host", robot_id="robot_A", token="lrb_robot_c"),
        Credential(backend_url="ws://host", token="lrb_viewer_d"),
    )
    new = Credential(backend_url="ws://HOST", robot_id="robot_A", token="lrb_robot_e")
    assert with_credential((old, *others), new) == (*others, new)
