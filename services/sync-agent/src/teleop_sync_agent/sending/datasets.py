"""The datasets below the watched roots, and the stored state of each."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from teleop_dataset.folder import DatasetSeen

from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.sending.dataset_sync import DatasetPlace, UploadProgress

# States in which the server has confirmed the version of a dataset, whether or not it is still here.
NOT_HERE = ("reclaimed", "lost", "gone")
HELD_STATES = ("stored", *NOT_HERE)
FORGOTTEN = "the server no longer knows it"
GONE_THERE = (
    "the server no longer knows it, and it was deleted here after the server confirmed it: ask an admin of "
    "the server to restore the database, or to run `lerobot-backend adopt`"
)
# Weight of the last second in the displayed rate: half of a change shows after two seconds.
RATE_SHARE = 0.3


@dataclass
class Tended:
    """A dataset that the agent takes care of.

    problem  why a dataset of that name can't be saved
    hinted   set when something in its folder changed
    seen     the last look; None when it would take too much memory
    turn     held by whoever works in its folder: looking and sending, or deleting
    """

    place: DatasetPlace
    row: DatasetRow
    problem: str | None = None
    hinted: asyncio.Event = field(default_factory=asyncio.Event)
    seen: DatasetSeen | None = None
    progress: UploadProgress | None = None
    noting: asyncio.Lock = field(default_factory=asyncio.Lock)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Datasets:
    """All datasets of one agent: a Finder adds them, a Tender takes care of them, the reaper deletes them.

    tended  by folder
    """

    def __init__(self, state: AgentState) -> None:
        self.tended: dict[Path, Tended] = {}
        self._state = state

    def held(self) -> list[DatasetRow]:
        """Datasets of which the server has confirmed a version, whether or not they are still here."""
        return [row for row in self._state.datasets() if row.manifest_sha256 and row.state in HELD_STATES]

    async def bring_again(self, row: DatasetRow) -> bool:
        """The server no longer knows that version; returns True if it is sent again, False
        if it is recorded as lost."""
        if row.state == "stored" and await asyncio.to_thread(Path(row.folder).exists):
            await asyncio.to_thread(self._state.doubt, row.folder)
            # Without fingerprint and manifest the next step takes it for a dataset that was never saved.
            again = {"reason": FORGOTTEN, "again": FORGOTTEN, "manifest_sha256": ""}
            await self._change(row, state="waiting", fingerprint="", saved_episodes=0, **again)
            return True
        # What the agent has deleted itself stays named so: its note says how it can be restored.
        state = row.state if row.state == "reclaimed" else "lost"
        await self._change(row, state=state, error=GONE_THERE)
        return False

    async def found_again(self, row: DatasetRow) -> None:
        """The server knows that version again, after it did not know it for a while."""
        if row.error == GONE_THERE:
            await self._change(row, state="stored" if row.state == "lost" else row.state, error=None)

    async def note_overtaken(self, row: DatasetRow, newest: int | None) -> bool:
        """Another computer has stored that version under the name of this dataset after ours; None: nobody
        has. Returns whether this is news.

        Only said of a dataset that is at rest: while it is being sent, the newest version may be our own.
        """
        tended = self.tended.get(Path(row.folder))
        now = row if tended is None else tended.row
        if now.state != "stored" or now.overtaken_by == newest:
            return False
        await self._change(row, overtaken_by=newest)
        return newest is not None

    async def _change(self, row: DatasetRow, **changes: object) -> None:
        """Store the change if the server's last answer on the dataset is still that of `row`."""
        tended = self.tended.get(Path(row.folder))
        if tended is None:
            await asyncio.to_thread(self._state.note_dataset, replace(row, **changes))
        elif tended.row.manifest_sha256 == row.manifest_sha256:
            await self.note(tended, **changes)
            tended.hinted.set()

    async def note(self, tended: Tended, **changes: object) -> None:
        """Store what changed, if anything did."""
        async with tended.noting:
            row = replace(tended.row, **changes)
            if row != tended.row:
                tended.row = row
                await asyncio.to_thread(self._state.note_dataset, row)

    async def note_progress(self, tended: Tended, sent_before: int, elapsed_s: float) -> int:
        """Store the progress of an upload; returns the bytes sent so far, 0 if there is no upload.

        sent_before  what this returned `elapsed_s` ago
        """
        progress = tended.progress
        if progress is None:
            return 0
        rate = max(0, progress.sent_bytes - sent_before) / elapsed_s
        await self.note(
            tended,
            bytes_total=progress.bytes_total,
            bytes_done=progress.bytes_now,
            bytes_per_s=round(tended.row.bytes_per_s * (1 - RATE_SHARE) + rate * RATE_SHARE),
            error=progress.trouble,
        )
        return progress.sent_bytes
