"""Capture times on their way into the database, and out of it."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.instants import instant_of, us_of

YEAR_1_US, YEAR_9999_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def test_what_an_instant_is():
    """A known one, with its microsecond."""
    assert instant_of(1_700_000_000_123_457) == datetime(2023, 11, 14, 22, 13, 20, 123457, tzinfo=UTC)


@given(st.integers(YEAR_1_US, YEAR_9999_US))
def test_every_microsecond_comes_back(timestamp_us):
    """Of all years that there are, also before 1970."""
    assert us_of(instant_of(timestamp_us)) == timestamp_us
