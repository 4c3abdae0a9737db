import pytest
from teleop_client.address import check_backend_url


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
