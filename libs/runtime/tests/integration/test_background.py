"""Background work: it goes on, and tells of its trouble."""

import asyncio
import errno

import asyncpg
import pytest
from teleop_runtime import background
from teleop_runtime.background import Background
from teleop_runtime.metrics import BACKGROUND_FAILURES, BACKGROUND_IN_TROUBLE
from teleop_testing.waiting import until


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Whoever stumbled goes on at once."""
    monkeypatch.setattr(background, "RESTART_AFTER_S", 0.001)


class Stumbling:
    """Work that does what it is told, one way after the other; the last one for good."""

    def __init__(self, *ways):
        self.ways = list(ways)
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        way = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        if isinstance(way, BaseException):
            raise way
        if way == "runs":
            await asyncio.sleep(3600)


async def reason(work: Background, name: str) -> str:
    """What readiness hears of it; nothing if all is well."""
    try:
        await work.checks()[name]()
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "way",
    [
        OSError(errno.EMFILE, "Too many open files"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        ZeroDivisionError("a defect"),
        asyncio.CancelledError(),
        "ends",
    ],
    ids=lambda way: getattr(way, "__class__", type(way)).__name__,
)
async def test_work_goes_on_whatever_it_raises(way):
    """It is started again, also where it ended on its own or was cancelled from within."""
    work = Stumbling(way, way, "runs")
    async with Background() as all_work:
        all_work.keep("work", work)
        await until(lambda: work.calls == 3)


async def test_looks_go_on_whatever_they_raise():
    """What is done now and then is done again."""
    look = Stumbling(OSError("no"), ZeroDivisionError("no"), "ends")
    async with Background() as all_work:
        all_work.every(0.001, "look", look)
        await until(lambda: look.calls > 5)


async def test_readiness_tells_until_it_has_got_on():
    """While vital work fails its check raises with the reason; once it has got on, it does not."""
    look = Stumbling(ValueError("the moon is full"))
    async with Background() as all_work:
        all_work.every(0.001, "look", look, vital=True)
        all_work.every(0.001, "aside", look)
        assert list(all_work.checks()) == ["look"]

        async def told():
            return await reason(all_work, "look")

        assert await until(told) == "the moon is full"
        assert BACKGROUND_IN_TROUBLE.labels("look")._value.get() == 1
        assert BACKGROUND_FAILURES.labels("look")._value.get() > 0
        look.ways = ["ends"]

        async def well():
            return not await told()

        await until(well)
        assert BACKGROUND_IN_TROUBLE.labels("look")._value.get() == 0


async def test_work_that_runs_has_got_over_its_trouble(monkeypatch):
    """What runs for good is well again once it has run for a while."""
    monkeypatch.setattr(background, "STEADY_AFTER_S", 0.05)
    async with Background() as all_work:
        all_work.keep("work", work := Stumbling(OSError("no"), "runs"), vital=True)
        await until(lambda: work.calls == 2)

        async def well():
            return not await reason(all_work, "work")

        await until(well)


async def test_same_trouble_is_logged_once(capsys):
    """A database that is away for an hour makes a line, not thousands."""
    look = Stumbling(ConnectionRefusedError("connection refused"))
    async with Background() as all_work:
        all_work.every(0.001, "look", look)
        await until(lambda: look.calls > 20)
    assert capsys.readouterr().out.count("background work is waiting") == 1


async def test_it_ends_though_its_cancellation_is_answered_with_an_error():
    """As by a queue that wants to tell a database, which is away, that its worker ends."""

    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ConnectionError("the database is away") from None

    async with Background() as all_work:
        all_work.keep("ends with an error", work)
        await asyncio.sleep(0)
    assert BACKGROUND_FAILURES.labels("ends with an error")._value.get() == 0
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "ends with an error"] == []


async def test_work_that_does_not_end_is_left(monkeypatch):
    """What takes no notice of being cancelled keeps nobody from ending."""
    monkeypatch.setattr(background, "STOP_WITHIN_S", 0.01)
    monkeypatch.setattr(background, "STOP_AT_LAST_S", 0.01)
    over = asyncio.Event()

    async def work():
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    async with Background() as all_work:
        all_work.keep("stubborn", work)
        await asyncio.sleep(0)
    stubborn = [task for task in asyncio.all_tasks() if task.get_name() == "stubborn"]
    assert len(stubborn) == 1
    over.set()
    await asyncio.wait(stubborn)
