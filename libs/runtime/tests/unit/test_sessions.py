"""Cookies of browsers that have signed in, and links that are good once."""

import pytest
from teleop_runtime.access.sessions import (
    PLAIN_NAME,
    SECURE_NAME,
    check_own_page,
    cookie,
    hash_of_secret,
    is_secret,
    make_secret,
    shown_session,
    sign_in_link,
)
from teleop_schema.errors import Forbidden


def test_nobody_can_guess_a_secret():
    """256 bits, and no two are the same; the database has something else."""
    secrets = {make_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(is_secret(each) and len(each) * 6 >= 256 for each in secrets)
    assert len({hash_of_secret(each) for each in secrets}) == 100
    one = secrets.pop()
    assert not any(map(is_secret, ("", one[1:], f"{one}x", f"{one[1:]}\n", f"{one[1:]}é")))


def test_the_code_of_a_link_is_in_its_fragment():
    """Which browsers keep to themselves."""
    assert sign_in_link("http://host:8000/sign-in", "abc") == "http://host:8000/sign-in#abc"


def test_a_cookie_is_for_the_backend_alone():
    """No script reads it, no other site's form sends it; by https its name holds it to that."""
    secret = make_secret()
    plain, secure = cookie(secret, tls=False), cookie(secret, tls=True)
    assert plain.startswith(f"{PLAIN_NAME}={secret}; Path=/; Max-Age=")
    assert secure.startswith(f"__Host-lerobot_session={secret}; Path=/; Max-Age=")
    for each in (plain, secure):
        assert "; HttpOnly; SameSite=Lax" in each
        assert "Domain" not in each
    assert (plain.endswith("; Secure"), secure.endswith("; Secure")) == (False, True)
    assert "Max-Age=0;" in cookie("", tls=True)


def test_a_session_is_found_among_other_cookies():
    """Only under the name of how the request came; two of them are none."""
    one, other = make_secret(), make_secret()
    shown = f"a=b; {PLAIN_NAME}={one}; {SECURE_NAME}={other}; c"
    assert shown_session([shown], tls=False) == one
    assert shown_session([shown], tls=True) == other
    assert shown_session(["a=b", f"{PLAIN_NAME}={one}"], tls=False) == one
    assert shown_session([f"{PLAIN_NAME}={one};{PLAIN_NAME}={one}"], tls=False) == one
    for nothing in ([], [""], [f"{PLAIN_NAME}=x"], [f"{PLAIN_NAME}={one}; {PLAIN_NAME}={other}"]):
        assert shown_session(nothing, tls=False) is None


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "OPTIONS", None])
def test_only_a_page_of_the_backend_changes_something(method):
    """A browser says which page asks; whoever says nothing is refused."""
    for tls in (True, False):
        check_own_page(method, {b"origin": b"https://host"}, tls=tls)
        check_own_page(method, {b"sec-fetch-site": b"same-origin"}, tls=tls)
    check_own_page(method, {b"origin": b"http://host"}, tls=False)
    with pytest.raises(Forbidden):
        check_own_page(method, {b"origin": b"http://host", b"sec-fetch-site": b"same-origin"}, tls=True)
    for said in ({}, {b"sec-fetch-site": b"none"}, {b"sec-fetch-site": b"same-site"}):
        with pytest.raises(Forbidden, match="only when a page of this backend asks"):
            check_own_page(method, said, tls=False)


def test_whoever_reads_says_nothing():
    """A browser sends no Origin when somebody follows a link."""
    check_own_page("GET", {}, tls=True)
    check_own_page("HEAD", {b"origin": b"http://host"}, tls=True)
