"""Capture times on their way into the database; pure."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_of(timestamp_us: int) -> datetime:
    """The instant `timestamp_us` us after the Unix epoch, exact to the microsecond."""
    return EPOCH + timedelta(microseconds=timestamp_us)
