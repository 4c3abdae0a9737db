"""How long to wait before the next attempt. Pure."""

# A service that restarts is back within seconds, and the first attempts should find it.
FIRST_BACKOFF_S = 0.2
# By then every `longest_s` is reached; a larger power would only overflow after a night of failures.
_MOST_DOUBLINGS = 16


def backoff_s(failures: int, longest_s: float, jitter: float) -> float:
    """Seconds to wait after this many failures in a row; `jitter` is between 0 and 1."""
    delay_s = min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(failures, _MOST_DOUBLINGS))
    # Robots that lost the same server do not come back in the same moment.
    return delay_s * (0.5 + 0.5 * jitter)
