"""Whose trouble a failing commit is: that of all robots, or of one."""

import asyncpg
import pytest
from teleop_schema.errors import StorageUnavailable
from teleop_telemetry.receiving import trouble as trouble_module
from teleop_telemetry.receiving.trouble import OF_ALL_AFTER_S, Trouble

ONE, OTHER = object(), object()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trouble_module, "time", clock)
    return clock


async def is_ready(trouble: Trouble) -> bool:
    """And whether the failure is told as that of all robots, or else of some."""
    by_all, by_each = trouble.check, trouble.check_each
    ready = True
    try:
        await by_all()
    except StorageUnavailable:
        ready = False
    if ready:
        with pytest.raises(StorageUnavailable):
            await by_each()
    else:
        await by_each()
    return ready


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ReadOnlySQLTransactionError("read only"),
        ConnectionRefusedError("refused"),
        StorageUnavailable("away"),
    ],
)
async def test_database_that_says_so_is_everybodys_at_once(clock, error):
    """Whoever stores nothing need not be found first."""
    trouble = Trouble()
    trouble.begins(ONE, error)
    assert not await is_ready(trouble)


@pytest.mark.parametrize(
    "error", [asyncpg.InternalServerError("cache lookup failed"), asyncpg.CheckViolationError("rule")]
)
async def test_an_error_that_may_be_of_one_robot(clock, error):
    """It takes readiness from the others only once nothing was stored beside it for some time."""
    trouble = Trouble()
    trouble.begins(ONE, error)
    assert await is_ready(trouble)
    clock.now_s = OF_ALL_AFTER_S
    trouble.begins(ONE, error)
    assert not await is_ready(trouble)
    trouble.stored()
    assert await is_ready(trouble)
    # The robot comes again, and is refused again.
    trouble.ends(ONE)
    trouble.begins(OTHER, error)
    assert await is_ready(trouble)
