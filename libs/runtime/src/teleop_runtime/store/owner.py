"""Whether a store is still the place that it was."""

from teleop_runtime.store.errors import StoreUnusable


class SeenOwner:
    """The name of the database whose files a store holds, as it was last read or written there."""

    def __init__(self) -> None:
        self._name: str | None = None

    def saw(self, name: str | None) -> str | None:
        """The same name; one that is None was never there, or has gone."""
        self._name = name or self._name
        return name

    def check(self, found: str | None) -> None:
        """Raise StoreUnusable if a name was there, and is not any more."""
        if self._name is not None and found != self._name:
            raise StoreUnusable(
                "the place of the stored files has become another one: nothing there says whose they are",
                hint="is the disk mounted, and has nobody moved or removed the folder?",
            )
