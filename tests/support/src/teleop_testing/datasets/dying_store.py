"""A store in which whoever works dies: before or after the operation of a number."""

from typing import Any

from teleop_runtime.store import Store

CHANGES = ("discard", "unname", "remove", "remove_note", "set_note")


class Died(BaseException):
    """The process was killed; nothing catches it."""


class DyingStore:
    """Passes everything on to a store; the change with the number `dies_at` is its last.

    after  it is made before
    """

    def __init__(self, store: Store, dies_at: int, *, after: bool) -> None:
        self._store = store
        self._left = dies_at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._counted(found) if name in CHANGES else found

    def _counted(self, change: Any) -> Any:
        async def changed(*words: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Died
            result = await change(*words)
            if self._left == 0:
                raise Died
            return result

        return changed
