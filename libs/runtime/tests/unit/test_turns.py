"""Places that are shared."""

import asyncio

import pytest
from teleop_runtime.turns import Turns


class Files:
    """Files that hold a place until they are let go, and the order in which they got it."""

    def __init__(self, places: int, each: int | None = None) -> None:
        self.turns = Turns(places, each)
        self.served: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def arrive(self, *names: str) -> None:
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._hold(name))
        await asyncio.sleep(0.01)

    async def _hold(self, name: str) -> None:
        async with self.turns.place(name[0]):
            self.served.append(name)
            await self.ends[name].wait()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)


async def test_a_robot_with_many_files_keeps_nobody_waiting():
    """Whoever has fewer places is next, however many wait before it."""
    files = Files(2)
    await files.arrive("a1", "a2", "a3", "a4", "b1", "c1")
    assert files.served == ["a1", "a2"]
    assert files.turns.waiting("a") == 2
    await files.end("a1")
    await files.end("a2")
    assert files.served == ["a1", "a2", "b1", "c1"]
    await files.end("b1")
    await files.arrive("d1")
    await files.end("c1")
    assert files.served[4:] == ["a3", "d1"]
    await files.end("a3")
    assert files.served[6:] == ["a4"]


async def test_robots_with_as_many_take_turns():
    """One after the other, not one until it has no more."""
    files = Files(1)
    await files.arrive("a1", "a2", "a3", "b1", "b2")
    for name in ("a1", "b1", "a2", "b2", "a3"):
        await files.end(name)
    assert files.served == ["a1", "b1", "a2", "b2", "a3"]


async def test_nobody_has_all_places():
    """Although some are free: whoever comes next may come at any time."""
    files = Files(3, each=2)
    await files.arrive("a1", "a2", "a3")
    assert files.served == ["a1", "a2"]
    await files.arrive("b1")
    assert files.served == ["a1", "a2", "b1"]
    await files.end("a1")
    assert files.served == ["a1", "a2", "b1", "a3"]


async def test_who_gives_up_leaves_no_place_behind():
    """While waiting, with the place just given, or at work."""
    files = Files(1)
    await files.arrive("a1", "a2", "b1", "c1")
    files.tasks["b1"].cancel()
    files.ends["a1"].set()
    await asyncio.wait([files.tasks["a1"], files.tasks["b1"]])
    await asyncio.sleep(0.01)
    (at_work,) = [name for name in files.served if not files.tasks[name].done()]
    files.tasks[at_work].cancel()
    await asyncio.sleep(0.01)
    await files.arrive("d1")
    for name in ("a2", "c1", "d1"):
        files.ends[name].set()
    await asyncio.wait([files.tasks[name] for name in ("a2", "c1", "d1")], timeout=None)
    assert files.turns.waiting("a") == files.turns.waiting("d") == 0
    with pytest.raises(asyncio.CancelledError):
        await files.tasks["b1"]
