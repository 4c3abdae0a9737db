import time

from lerobot_robot_backend.clock import CaptureClock


def test_wall_clock_steps_are_not_felt(monkeypatch):
    """Setting the system's clock back by a year changes no capture time."""
    clock = CaptureClock()
    before = clock.now_us()
    real = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real - 365 * 24 * 3600 * 10**9)
    assert before <= clock.now_us() <= before + 60_000_000


def test_moments_are_on_the_same_clock():
    """A moment told by the monotonic clock lies where `now_us` would have put it."""
    clock = CaptureClock()
    moment_ns = time.monotonic_ns()
    assert clock.started_us <= clock.at_us(moment_ns) <= clock.now_us()
    assert abs(clock.started_us - time.time_ns() // 1000) < 60_000_000
