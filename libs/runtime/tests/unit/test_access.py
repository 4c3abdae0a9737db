"""Tokens, codes, and what each role may do."""

import re

import pytest
from teleop_runtime.access import codes, tokens
from teleop_runtime.access.codes import Code, joining_line, make_code, read_code
from teleop_runtime.access.principal import THIS_MACHINE, Principal
from teleop_runtime.access.roles import ALLOWED, AUDITED, NEEDS, ROLES, roles_for
from teleop_runtime.access.tokens import hash_of, kind_of, make_token, prefix_of
from teleop_runtime.logs import holds_token, redact
from teleop_schema.certificates.authority import Authority
from teleop_schema.certificates.pins import pin_of
from teleop_schema.errors import NotAllowed


@pytest.mark.parametrize("role", ROLES)
def test_a_token_shows_its_kind(role):
    """And nothing else; no two are the same."""
    token = make_token(role)
    assert re.fullmatch(rf"lrb_{role}_[0-9A-Za-z]{{43}}_[0-9A-Za-z]{{6}}", token)
    assert kind_of(token) == role
    assert make_token(role) != token
    assert len(hash_of(token)) == 32
    assert token.startswith(prefix_of(token))
    assert len(prefix_of(token)) == len(f"lrb_{role}_") + tokens.SHOWN_LENGTH


def test_all_of_the_random_bits_are_in_a_token(monkeypatch):
    """The greatest number fits, and the least is as long."""
    monkeypatch.setattr(tokens.secrets, "randbits", lambda bits: 2**bits - 1)
    greatest = make_token("robot")
    monkeypatch.setattr(tokens.secrets, "randbits", lambda _bits: 0)
    least = make_token("robot")
    assert (kind_of(greatest), kind_of(least)) == ("robot", "robot")
    assert 62**43 > 2**256 > 62**42
    assert greatest.split("_")[2] != "z" * 43
    assert least.split("_")[2] == "0" * 43


def test_whatever_was_changed_is_not_a_token():
    """Any character, the kind, the length, the space around it."""
    token = make_token("robot")
    body, _, checksum = token.rpartition("_")
    for place, character in enumerate(token):
        other = "b" if character == "a" else "a"
        assert kind_of(token[:place] + other + token[place + 1 :]) is None
    for wrong in ("", " ", token[:-1], f"{token}0", f" {token}", f"{token}\n", token.upper(), body, checksum):
        assert kind_of(wrong) is None
    assert kind_of(token.replace("robot", "admin")) is None
    assert kind_of(f"lrb_root_{'0' * 43}_000000") is None


def test_tokens_are_found_in_other_text():
    """Their beginning stays, so that it can be told which token it was."""
    token = make_token("operator")
    said = f"GET /robots?token={token} HTTP/1.1"
    assert holds_token(said)
    assert holds_token(token[:-20])
    assert redact(said) == f"GET /robots?token={prefix_of(token)}… HTTP/1.1"
    for innocent in ("lrb_robot_7", "lrb_arm_left", "robot_A", "lrb://host/?code=K7QF-2M9P"):
        assert not holds_token(innocent)
        assert redact(innocent) == innocent


def test_a_code_is_read_as_people_type_it():
    """In lower case, without its dash, with letters that look like digits."""
    code = make_code()
    for typed in (str(code), str(code).lower(), f" {code}\n", str(code).replace("-", "")):
        assert read_code(typed) == code
    assert read_code("oIl1-00OO") == Code("0111", "0000")
    for wrong in (
        "",
        "-",
        "K7QF",
        "K7QF-2M9",
        "K7QF-2M9PX",
        "K7QF--2M9P",
        "K7QU-2M9P",
        "K7QF 2M9P",
        "٠٠٠٠-٠٠٠٠",
    ):
        assert read_code(wrong) is None


def test_a_code_keeps_its_secret():
    """In logs and tracebacks; its hash depends on both halves."""
    assert "2M9P" not in repr(Code("K7QF", "2M9P"))
    hashes = {Code(*halves).hash for halves in (("K7QF", "2M9P"), ("K7QG", "2M9P"), ("K7QF", "2M9Q"))}
    assert len(hashes) == 3
    assert len(codes.ALPHABET) == 32


def test_the_line_to_join_with():
    """As the robot side reads it."""
    code = Code("K7QF", "2M9P")
    assert joining_line("host:8000", code, tls=False) == "lrb://host:8000/?code=K7QF-2M9P"
    assert joining_line("example.org", code, tls=True) == "lrbs://example.org/?code=K7QF-2M9P"
    authority = Authority.make().signed.certificate
    line = joining_line("10.0.0.5:8000", code, tls=True, authority=authority)
    assert line == f"lrbs://10.0.0.5:8000/?code=K7QF-2M9P&pin={pin_of(authority)}"
    # Behind a proxy with a certificate of its own, or without TLS, that says nothing.
    assert "pin" not in joining_line("10.0.0.5:8000", code, tls=False, authority=authority)


def test_an_admin_may_do_everything_and_metrics_nothing_else():
    """The two ends of the table."""
    assert all("admin" in ALLOWED[need] for need in NEEDS)
    assert {need for need in NEEDS if "metrics" in ALLOWED[need]} == {"nothing", "known", "metrics"}
    assert ALLOWED["administer"] == {"admin"}
    assert not ALLOWED["operate"] & {"robot", "viewer"}
    assert AUDITED.isdisjoint({"nothing", "read", "browse", "metrics"})
    assert roles_for("operate") == "operator or admin"


def test_a_robot_may_touch_what_is_its_own():
    """Reading and sending; the error names what is needed."""
    robot = Principal("robot_A", "robot", frozenset({"robot_A"}))
    robot.check_need("send")
    robot.check_need("read")
    robot.check_robot("robot_A")
    with pytest.raises(NotAllowed, match="needs the role operator or admin"):
        robot.check_need("operate")
    with pytest.raises(NotAllowed, match="of robot_A only, not of robot_B"):
        robot.check_robot("robot_B")
    with pytest.raises(NotAllowed, match="about all robots"):
        robot.check_all_robots()
    anna = Principal("anna", "viewer", frozenset({"robot_A"}), how="session")
    with pytest.raises(NotAllowed, match="anna is for data of robot_A only"):
        anna.check_all_robots()
    THIS_MACHINE.check_all_robots()
    THIS_MACHINE.check_robot("robot_B")
    THIS_MACHINE.check_need("administer")
