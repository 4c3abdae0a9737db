"""Capture clock: wall clock read once, then advanced by the monotonic clock."""

import time


class CaptureClock:
    """Microseconds since the Unix epoch that never jump, even if the system's clock is set.

    started_us  when this clock was created
    """

    def __init__(self) -> None:
        self._wall_ns = time.time_ns()
        self._monotonic_ns = time.monotonic_ns()
        self._offset_ns = self._wall_ns - self._monotonic_ns
        # On Linux and macOS these two are the same clock, but nobody guarantees it.
        self._performance_offset_ns = self._wall_ns - time.perf_counter_ns()
        self.started_us = self._wall_ns // 1000

    def now_us(self) -> int:
        """Now."""
        return (time.monotonic_ns() + self._offset_ns) // 1000

    def at_us(self, monotonic_ns: int) -> int:
        """The moment at which `time.monotonic_ns()` was `monotonic_ns`."""
        return (monotonic_ns + self._offset_ns) // 1000

    def at_performance_us(self, performance_s: float) -> int:
        """The moment at which `time.perf_counter()` was `performance_s`: the clock of LeRobot's cameras."""
        return (round(performance_s * 1e9) + self._performance_offset_ns) // 1000
