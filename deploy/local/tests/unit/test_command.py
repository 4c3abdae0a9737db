"""What the banner tells of addresses."""

import pytest
from teleop_backend.command import addresses_for


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
