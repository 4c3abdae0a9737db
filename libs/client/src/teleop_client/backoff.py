"""How long to wait before the next attempt. Pure."""

FIRST_BACKOFF_S = 0.2


def backoff_s(failures: int, longest_s: float, jitter: float) -> float:
    """Seconds to wait after this many failures in a row; `jitter` is between 0 and 1."""
    delay_s = min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(failures, 16))
    return delay_s * (0.5 + 0.5 * jitter)
