"""How long to wait before the next try. Pure."""

FIRST_BACKOFF_S = 0.2


def backoff_s(failures: int, longest_s: float, jitter: float) -> float:
    """Seconds to wait after so many failures in a row; `jitter` is in 0 to 1."""
    delay_s = min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(failures, 16))
    return delay_s * (0.5 + 0.5 * jitter)
