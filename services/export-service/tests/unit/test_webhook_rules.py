"""Where webhooks may go, and how receivers know who has sent them."""

from ipaddress import ip_address

import pytest
from teleop_export.webhooks.rules import (
    MAX_ATTEMPTS,
    RETRY_AFTER_S,
    Allowed,
    chosen_address,
    make_secret,
    retry_after_s,
    sign,
)
from teleop_schema.errors import BadInput

ALLOWED = Allowed.of("hooks.example.com, trainer.lan 192.168.1.0/24 fd00::/8")


def test_signature_is_that_of_standard_webhooks():
    """As its reference library (standardwebhooks 1.0 of PyPI) signs the same."""
    secret, name = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert sign(secret, name, 1614265330, b'{"test": 2432232314}') == {
        "webhook-id": name,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_secrets_differ():
    assert make_secret() != make_secret()
    assert make_secret().startswith("whsec_")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://HOOKS.example.com./x?y=1",
        "https://hooks.example.com:8443/x",
        "http://192.168.1.7:9000/x",
        "http://[fd00::1]/x",
        "http://trainer.lan/x",
    ],
)
def test_what_is_named_may_be_told(url):
    ALLOWED.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://sub.hooks.example.com",
        "https://hooks.example.com.evil.com",
        "https://hooks.example.com@evil.com/",
        "https://user:word@hooks.example.com/",
        "https://evil.com#hooks.example.com",
        "https://evil.com\\@hooks.example.com/",
        "ftp://hooks.example.com",
        "file:///etc/passwd",
        "hooks.example.com",
        "https://",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nx: y",
        "https://höoks.example.com/",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://8.8.8.8/",
        "http://localhost/",
        "https://[fe80::1%25eth0]/",
    ],
)
def test_nothing_else_may(url):
    """However it is written."""
    with pytest.raises(BadInput) as refused:
        ALLOWED.check_url(url)
    assert refused.value.field == "url"


@pytest.mark.parametrize("address", ["93.184.215.14", "192.168.1.9", "fd00::5", "2606:2800:21f::1"])
def test_names_may_stand_for_these(address):
    ALLOWED.check_address(ip_address(address), "https")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.2.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "ff02::1", "fc00::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::"),
    ],
)
def test_names_may_not_stand_for_these(address):
    """Whoever answers for a name must not lead requests into this network."""
    with pytest.raises(BadInput):
        ALLOWED.check_address(ip_address(address), "https")


def test_plain_http_stays_within_the_networks_that_are_named():
    ALLOWED.check_address(ip_address("192.168.1.9"), "http")
    ALLOWED.check_address(ip_address("::ffff:192.168.1.9"), "http")
    with pytest.raises(BadInput):
        ALLOWED.check_address(ip_address("93.184.215.14"), "http")


def test_all_addresses_of_a_name_have_to_be_allowed():
    assert chosen_address(["192.168.1.9", "93.184.215.14"], ALLOWED, "https") == "192.168.1.9"
    with pytest.raises(BadInput):
        chosen_address(["93.184.215.14", "127.0.0.1"], ALLOWED, "https")


def test_nothing_is_allowed_unless_it_is_named():
    with pytest.raises(BadInput):
        Allowed.of("").check_url("https://hooks.example.com")


@pytest.mark.parametrize(
    "setting", ["192.168.1.0/33", "192.168.1.5/24", "https://hooks.example.com", "1.2.3"]
)
def test_a_setting_that_is_mistyped_is_refused(setting):
    with pytest.raises(ValueError, match="is not a network"):
        Allowed.of(setting)


def test_attempts_last_for_days_and_end():
    assert [retry_after_s(attempt) for attempt in range(1, MAX_ATTEMPTS + 1)] == [*RETRY_AFTER_S, None]
    assert sum(RETRY_AFTER_S) > 3 * 24 * 3600
