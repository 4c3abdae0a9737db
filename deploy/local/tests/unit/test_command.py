"""What the banner tells of addresses, and of who may use them."""

import pytest
from teleop_backend import command
from teleop_backend.command import _access, addresses_for
from teleop_backend.settings import LocalSettings


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", "localhost")),
        ("localhost", ("localhost", "localhost")),
        ("::1", ("[::1]", "[::1]")),
        ("192.0.2.7", ("192.0.2.7", "192.0.2.7")),
    ],
)
def test_one_address_is_that_of_robots_too(host, expected):
    """But for this machine's own, which has a name."""
    assert addresses_for(host) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_addresses_are_told_as_ones_that_can_be_reached(host):
    """Nobody can connect to 0.0.0.0, and a robot's localhost is another machine."""
    here, robots = addresses_for(host)
    assert here == "localhost"
    assert robots not in ("localhost", "127.0.0.1", host)


@pytest.mark.parametrize(
    ("settings", "tells_accounts", "said"),
    [
        ({}, True, "your account on this machine needs no token; all others do"),
        ({"host": "0.0.0.0"}, True, "your account on this machine needs no token; all others do"),
        ({}, False, "this system does not tell them apart"),
        ({"exposure": "lab"}, True, "whoever has a token"),
        ({"exposure": "internet"}, True, "whoever has a token"),
        ({"exposure": "lab", "trust_network": True}, True, "WITHOUT a token"),
        ({"trust_network": True}, True, "WITHOUT a token"),
    ],
)
def test_who_may_use_it(monkeypatch, settings, tells_accounts, said):
    """As it is, on this system."""
    monkeypatch.setattr(command, "can_tell_accounts", lambda: tells_accounts)
    assert said in _access(LocalSettings(_env_file=None, **settings))
