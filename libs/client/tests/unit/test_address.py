import pytest
from teleop_client.address import check_backend_url, same_backend


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ws://localhost:8000", "ws://localhost:8000"),
        ("ws://localhost:8000/", "ws://localhost:8000"),
        ("http://robot-lab.local", "ws://robot-lab.local"),
        ("https://example.org/backend/", "wss://example.org/backend"),
        ("wss://[::1]:8443", "wss://[::1]:8443"),
    ],
)
def test_addresses_as_people_write_them(given, meant):
    """http and https, a slash at the end, and a path in front are understood."""
    assert check_backend_url(given) == meant


@pytest.mark.parametrize(
    "given",
    [
        "",
        "localhost:8000",
        "ftp://localhost",
        "ws://",
        "ws://host:port",
        "ws://host:0",
        "ws://u:p@host",
        "ws://h?t=1",
    ],
)
def test_what_is_no_address_is_named(given):
    """The error says what was given or what is to be left out; it shows no password."""
    with pytest.raises(ValueError, match=r"address|must not have a user") as error:
        check_backend_url(given)
    assert "u:p" not in str(error.value)


@pytest.mark.parametrize("given", ["ws://localhost:8000/ws/log/robot_A", "http://localhost:8000/ws/log"])
def test_address_of_a_stream_is_shortened(given):
    """Whoever pastes the whole WebSocket address is told which part of it is wanted."""
    with pytest.raises(ValueError, match=r"the backend's address is \w+://localhost:8000,"):
        check_backend_url(given)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ws://Backend:8000", "http://backend:8000/", True),
        ("ws://backend", "http://backend:80", True),
        ("https://backend/robots/", "wss://backend:443/robots", True),
        ("ws://backend:8000", "wss://backend:8000", False),
        ("ws://backend:8000", "ws://backend:8001", False),
        ("ws://backend/one", "ws://backend/two", False),
        ("ws://localhost:8000", "ws://127.0.0.1:8000", False),
    ],
)
def test_one_address_in_two_spellings(one, other, same):
    """The scheme of a page, upper case, a slash at the end and the default port change nothing."""
    assert same_backend(one, other) is same
