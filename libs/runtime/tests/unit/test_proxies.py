"""What proxies say of a request, and who of them is believed."""

import pytest
from teleop_runtime.proxies import Told, is_trusted, read_forwarded, read_proxies

PROXIES = read_proxies("10.0.0.0/8, 192.0.2.1,, 2001:db8::/32 198.51.100.0/30")


def told(**headers: str) -> Told:
    """What headers say, each given once: `x_forwarded_for="…"`."""
    return read_forwarded({name.replace("_", "-"): [value] for name, value in headers.items()}, PROXIES)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("198.51.100.3", True),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
        ("", False),
        ("/run/socket", False),
    ],
)
def test_trusted_addresses(address, trusted):
    """Networks and single addresses; IPv4 within IPv6 is the same machine."""
    assert is_trusted(address, PROXIES) is trusted
    assert not is_trusted(address, ())


@pytest.mark.parametrize("wrong", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1;10.0.0.2"])
def test_what_is_no_network(wrong):
    """The mistake is named."""
    with pytest.raises(ValueError, match="is not an address or network like"):
        read_proxies(f"10.0.0.1,{wrong}")


def test_one_proxy():
    """The usual four headers."""
    assert told(
        x_forwarded_for="203.0.113.9",
        x_forwarded_proto="https",
        x_forwarded_host="robots.example.com:8443",
        x_forwarded_prefix="/robots/backend/",
    ) == Told("203.0.113.9", "https", "robots.example.com:8443", "/robots/backend")


@pytest.mark.parametrize(
    ("addresses", "client"),
    [
        ("203.0.113.9, 10.0.0.2", "203.0.113.9"),
        # Only what the trusted ones have added counts, not what the client has sent itself.
        ("127.0.0.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("203.0.113.9, 198.51.100.4", "198.51.100.4"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db9::1]:4711", "2001:db9::1"),
        ("2001:db9::1", "2001:db9::1"),
        ("unknown", None),
        ("<script>", None),
        (", ,", None),
    ],
)
def test_the_client(addresses, client):
    """The last address that is not a proxy's."""
    assert told(x_forwarded_for=addresses).client == client


def test_several_proxies_that_each_add_a_value():
    """Those of the proxy that the client has met; the client's own inventions stand further left."""
    found = told(
        x_forwarded_for="1.2.3.4, 203.0.113.9, 10.0.0.2",
        x_forwarded_proto="gopher, https, http",
        x_forwarded_host="evil.example, robots.example.com, inner:8000",
    )
    assert found == Told("203.0.113.9", "https", "robots.example.com")


@pytest.mark.parametrize(
    "header",
    [
        'for="[2001:db9::1]:4711";proto=https;host="robots.example.com:8443"',
        "For=203.0.113.9; Proto=HTTPS ;Host=robots.example.com:8443",
        'for=_hidden;host=evil, for=203.0.113.9;host="robots.example.com:8443";proto=https, for=10.0.0.2',
    ],
)
def test_the_standard_header(header):
    """RFC 7239: quoted or not, in any case, one element for each proxy."""
    found = told(forwarded=header)
    assert found.client in ("2001:db9::1", "203.0.113.9")
    assert (found.host, found.scheme) == ("robots.example.com:8443", "https")


def test_the_standard_header_does_not_count_beside_the_others():
    """A proxy that sets those passes this one on as the client has made it up."""
    found = told(x_forwarded_for="203.0.113.9", forwarded="for=1.2.3.4;proto=https;host=evil.example")
    assert found == Told("203.0.113.9")


@pytest.mark.parametrize(
    "header",
    [
        {"x_forwarded_host": "a b"},
        {"x_forwarded_host": "evil.example/path"},
        {"x_forwarded_host": "user@evil.example"},
        {"x_forwarded_host": "x" * 300},
        {"x_forwarded_proto": "javascript"},
        {"x_forwarded_prefix": "//evil.example"},
        {"x_forwarded_prefix": "https://evil.example"},
        {"x_forwarded_prefix": "/a\r\nSet-Cookie: b"},
        {"x_forwarded_prefix": "/a/../b c"},
        {"forwarded": 'for="[2001:db8'},
        {"forwarded": ";;;,,,==="},
    ],
)
def test_what_can_not_be_used_is_left_out(header):
    """Nothing in these headers can break an address that is made with them."""
    assert told(**header) == Told()
