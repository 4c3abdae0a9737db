"""How Arrow behaves in a process that makes exports: for all of the process, so only a `main` decides it."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa


def give_memory_back() -> None:
    """Let Arrow use the system's allocator.

    Its own keeps what was freed for itself: of five hours in one episode 75 MB.
    """
    pa.set_memory_pool(pa.system_memory_pool())


def do_without_pandas() -> None:
    """Let Arrow find no pandas.

    It imports it, where it is installed, to tell whether what it is given is of it, which here nothing is:
    60 MiB, and a third of a second of the first export.
    """
    sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("an export worker needs no pandas", name=name)
        return None
