"""How many requests somebody may make, and how much is kept of that."""

import pytest
from teleop_runtime.access import rates
from teleop_runtime.access.rates import Buckets, Rate, RateLimits
from teleop_schema.errors import RateLimited

TOKEN, OTHER = b"one", b"another"


def taken(buckets, who, now_s, most=1000):
    """How many requests the bucket has at that moment."""
    return next(number for number in range(most) if buckets.take(who, now_s) > 0)


def test_a_burst_and_then_a_steady_rate():
    """Time fills a bucket, up to the burst; whoever is refused hears how long to wait."""
    buckets = Buckets(Rate(per_s=4, burst=8))
    assert taken(buckets, "a", 0.0) == 8
    assert buckets.take("a", 0.0) == 0.25
    assert buckets.take("a", 0.25) == 0
    assert taken(buckets, "a", 1.25) == 4
    assert taken(buckets, "a", 1000.0) == 8


def test_each_has_a_bucket_of_its_own():
    """What one takes, another does not lack."""
    buckets = Buckets(Rate(per_s=4, burst=8))
    assert [taken(buckets, who, 0.0) for who in "ab"] == [8, 8]


def test_addresses_without_end_take_no_memory():
    """Those that were not heard for longest are forgotten; one that is still heard is not."""
    buckets = Buckets(Rate(per_s=1, burst=2), most=10)
    for number in range(1000):
        buckets.take(number, 0.0)
        if number % 5 == 0:
            buckets.take("loud", 0.0 + number / 5)
    assert len(buckets._full_at) == 10
    assert buckets.wait_s(0, 0.0) == 0
    assert "loud" in buckets._full_at


@pytest.fixture
def limits(monkeypatch):
    """With limits that a test reaches."""
    for who in ("CALLER", "STRANGER"):
        monkeypatch.setattr(rates, f"{who}_PER_SECOND", 2)
        monkeypatch.setattr(rates, f"{who}_BURST", 4)
    return RateLimits()


def test_a_known_token_comes_through_beside_guesses(limits):
    """Robots may share an address with somebody who guesses, whose tokens are then not even looked at."""
    limits.note_known(TOKEN)
    for _ in range(4):
        limits.check_shown(OTHER, "192.0.2.1", 0.0)
        limits.count_stranger("192.0.2.1", 0.0)
    with pytest.raises(RateLimited) as caught:
        limits.check_shown(OTHER, "192.0.2.1", 0.0)
    assert (caught.value.limit, caught.value.retry_after_s, caught.value.retryable) == (2, 1, True)
    with pytest.raises(RateLimited):
        limits.count_stranger("192.0.2.1", 0.0)
    limits.check_shown(TOKEN, "192.0.2.1", 0.0)
    limits.check_shown(OTHER, "192.0.2.2", 0.0)
    limits.check_shown(OTHER, "192.0.2.1", 0.5)


def test_who_is_limited_is_told_once_a_minute(limits):
    """A line for each request that is refused would be a second flood."""
    assert [limits.is_news(now_s) for now_s in (0.0, 1.0, 59.0, 60.0, 61.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_known_tokens_without_end_take_no_memory(limits, monkeypatch):
    """Tokens that were made for a day each, for years."""
    monkeypatch.setattr(rates, "MAX_REMEMBERED", 2)
    for token in (b"1", b"2", b"1", b"3"):
        limits.note_known(token)
    assert list(limits._known) == [b"1", b"3"]
