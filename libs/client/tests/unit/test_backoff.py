"""How long a client waits before it tries again."""

from teleop_client.backoff import backoff_s


def test_backoff_grows_and_stays_bounded():
    """The pauses double from 0.2 s, end at the given longest, and no two robots take the same."""
    assert [backoff_s(failures, 30.0, 1.0) for failures in range(5)] == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert backoff_s(10**6, 30.0, 1.0) == 30.0
    assert backoff_s(10**6, 30.0, 0.0) == 15.0
