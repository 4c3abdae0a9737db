"""Capture times, which are us since the Unix epoch on the wire, and `timestamptz` in the database."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def instant_of(timestamp_us: int) -> datetime:
    """The instant that many us after the Unix epoch."""
    # Exact, unlike `datetime.fromtimestamp`, whose float does not hold every microsecond.
    return EPOCH + timedelta(microseconds=timestamp_us)


def us_of(instant: datetime) -> int:
    """Microseconds from the Unix epoch to the instant."""
    return (instant - EPOCH) // _US
