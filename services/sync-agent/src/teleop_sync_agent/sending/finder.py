"""Finds datasets below the watched roots, names them, and is notified when something changes in them."""

import asyncio
import unicodedata
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from teleop_dataset.finding import LinkedDataset, find_datasets
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_dataset_name

from teleop_sync_agent.errors import explain
from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.sending.dataset_sync import DatasetPlace
from teleop_sync_agent.sending.datasets import Datasets, Tended
from teleop_sync_agent.watching.watcher import dataset_of, may_be_new, watch

# For changes without a hint: network file systems give none.
RESCAN_S = 60.0
# A closed and stored dataset is walked over less often: it should not change any more, and if it does, there
# is a hint.
SETTLED_RESCAN_S = 600.0
# Wait after a hint, because a created file is rarely the last one.
LOOK_AGAIN_S = 1.0


class Finder:
    """Finds the datasets of one agent, and adds them to `Datasets`.

    problems  folders that can't be read, and why: they may contain datasets
    """

    def __init__(self, datasets: Datasets, state: AgentState, roots: Iterable[Path]) -> None:
        self.problems: tuple[str, ...] = ()
        self._datasets = datasets
        self._state = state
        self._rescan = asyncio.Event()
        # Whether changes below a root are heard of; not on a network file system, for example.
        self._heard = dict.fromkeys(roots, True)

    async def find(self) -> list[Tended]:
        """Search for datasets; returns the new ones. Those whose names collide are stored as failed."""
        found = []
        refused: list[OSError] = []
        names = {tended.place.name: folder for folder, tended in self._datasets.tended.items()}
        for root in self._heard:
            for folder in await asyncio.to_thread(_list_datasets, root, refused):
                if folder in self._datasets.tended:
                    continue
                # macOS writes accents apart from their letters; the server has one name for both spellings.
                name = unicodedata.normalize("NFC", folder.relative_to(root).as_posix())
                tended = Tended(DatasetPlace(root, folder, name), self._known(root, folder, name))
                # Also one with a problem, so that it is not found again at each search.
                self._datasets.tended[folder] = tended
                tended.problem = _name_problem(name, names.get(name))
                if tended.problem is not None:
                    await self._datasets.note(tended, state="failed", error=tended.problem)
                    continue
                names[name] = folder
                found.append(tended)
        self.problems = tuple(explain(error) for error in refused if not self._is_tended_elsewhere(error))
        return found

    def _is_tended_elsewhere(self, error: OSError) -> bool:
        """Whether it is a link to a dataset that the agent already takes care of."""
        return isinstance(error, LinkedDataset) and any(
            error.target == folder.resolve() for folder in self._datasets.tended
        )

    def _known(self, root: Path, folder: Path, name: str) -> DatasetRow:
        row = self._state.dataset(str(folder))
        if row is None or row.name != name or row.root != str(root):
            return DatasetRow(folder=str(folder), root=str(root), name=name)
        # It has come back, or an earlier process was killed while sending.
        return replace(row, state="waiting") if row.state in ("gone", "lost", "sending") else row

    async def watch(self, root: Path) -> None:
        """Watch for changes below a root, forever."""
        await watch(root, partial(self._hint, root), partial(self._heard.__setitem__, root))

    async def wait(self) -> None:
        """Return when it is time to search again: after a hint of a new dataset, or after RESCAN_S."""
        self._rescan.clear()
        try:
            await asyncio.wait_for(self._rescan.wait(), RESCAN_S)
        except TimeoutError:
            return
        await asyncio.sleep(LOOK_AGAIN_S)

    def settled_pause_s(self, root: Path) -> float:
        """Seconds until the next look at a dataset below `root` that should not change any more."""
        return SETTLED_RESCAN_S if self._heard[root] else RESCAN_S

    def _hint(self, root: Path, path: Path) -> None:
        folders = self._datasets.tended.keys()
        if folder := dataset_of(path, root, set(folders)):
            self._datasets.tended[folder].hinted.set()
        elif may_be_new(path, root, set(folders)):
            self._rescan.set()


def _list_datasets(root: Path, refused: list[OSError]) -> list[Path]:
    return list(find_datasets(root, refused.append))


def _name_problem(name: str, other: Path | None) -> str | None:
    """Why a dataset can't be saved under that name."""
    if other is not None:
        return f"{other} has the same name {name!r}: rename one of them"
    try:
        check_dataset_name(name)
    except BadInput as error:
        return error.detail
    return None
