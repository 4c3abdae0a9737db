"""Asks the server whether it still knows what it has confirmed; what it has forgotten is sent again.

Its database may have been restored to an older state, or lost. The agent asks at its start,
whenever the server is reachable again, and every few minutes.
"""

import asyncio
import logging
import time

from lerobot_robot_backend.shipping.recall import (
    ASK_EVERY_S,
    Unaskable,
    ask,
    held_frames,
    held_videos,
)
from teleop_client.backend_http import BackendHttp, HttpFailure, Interrupted, Refused
from teleop_client.persevering import persevere
from teleop_schema.holding import Held, HeldVersion, Lacking

from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.sending.datasets import Datasets
from teleop_sync_agent.sending.own_streams import OwnStreams
from teleop_sync_agent.sending.spool_sync import SpoolSync

INSTALLATION_NOTE = "installation"

log = logging.getLogger(__name__)


class Recall:
    """Compares what the server has confirmed to one agent with what the server knows.

    asked_at  when the server last answered, seconds since the Unix epoch; None: not yet
    trouble   why it can't be asked at present
    """

    def __init__(
        self,
        streams: OwnStreams,
        backend: BackendHttp,
        state: AgentState,
        datasets: Datasets,
        spool: SpoolSync,
    ) -> None:
        self.asked_at: float | None = None
        self.trouble: str | None = None
        self._streams = streams
        self._backend = backend
        self._state = state
        self._datasets = datasets
        self._spool = spool
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Ask again and again, forever."""
        while True:
            await self.once()
            self._wanted.clear()
            try:
                await asyncio.wait_for(self._wanted.wait(), ASK_EVERY_S)
            except TimeoutError:
                continue

    def want(self) -> None:
        """Ask soon, because the server can be reached again."""
        self._wanted.set()

    async def once(self) -> None:
        """Ask until there is an answer; then mark what the server lacks for sending, or record it as lost.

        It asks with nothing to ask about, too: that shows whether a backend is at that address.
        """
        rows, held = await asyncio.to_thread(self._held)
        try:
            lacking = await persevere(lambda: self._ask(held), report=self._stumble)
        except (Unaskable, Refused) as error:
            log.warning("the server can't say what it has", extra={"detail": str(error)})
            return
        finally:
            # While it lasts, `_stumble` tells it; after an answer, or a refusal, there is none.
            self.trouble = None
        self.asked_at = time.time()
        await asyncio.to_thread(self._note_installation, lacking)
        await self._bring_again(rows, lacking)

    async def _ask(self, held: Held) -> Lacking:
        try:
            return await ask(self._backend, held)
        except Unaskable as error:
            # An older backend can't be asked; anything else at that address is a mistake, and may be
            # corrected.
            if await self._takes_files():
                raise
            raise Interrupted(f"{self._backend.url} is not the address of a backend: {error}") from error

    async def _takes_files(self) -> bool:
        """Whether a backend is there, of whatever release."""
        try:
            async with self._backend.request("OPTIONS", "/files"):
                return True
        except HttpFailure:
            return False

    def _held(self) -> tuple[list[DatasetRow], Held]:
        rows, streams = self._datasets.held(), list(self._streams.find())
        return rows, Held(
            robot_id=self._streams.robot_id,
            versions=tuple(HeldVersion(row.name, row.manifest_sha256) for row in rows),
            videos=tuple(held_videos(streams)),
            frames=tuple(held_frames(streams)),
        )

    async def _bring_again(self, rows: list[DatasetRow], lacking: Lacking) -> None:
        versions = set(lacking.versions)
        newest = {HeldVersion(each.dataset, each.manifest_sha256): each.newest for each in lacking.overtaken}
        lost = 0
        for row in rows:
            held = HeldVersion(row.name, row.manifest_sha256)
            if held in versions:
                lost += not await self._datasets.bring_again(row)
                continue
            await self._datasets.found_again(row)
            if await self._datasets.note_overtaken(row, newest.get(held)):
                log.warning(
                    "another computer stores a different dataset under this name",
                    extra={"dataset": row.name, "version": row.version, "newest": newest[held]},
                )
        recalled = await self._spool.bring_again(lacking)
        if versions or recalled.streams or recalled.segments:
            log.warning(
                "the server no longer knows what it confirmed: sending it again",
                extra={
                    "datasets": len(versions) - lost,
                    "streams": recalled.streams,
                    "video_segments": recalled.segments,
                    "datasets_not_here_either": lost,
                },
            )

    def _note_installation(self, lacking: Lacking) -> None:
        told = str(lacking.installation).encode()
        before = self._state.note(INSTALLATION_NOTE)
        # The first answer is no change: the agent is new.
        if before is not None and before != told:
            log.warning(
                "the server has another database now",
                extra={"installation": told.decode(), "before": before.decode()},
            )
        if before != told:
            self._state.set_note(INSTALLATION_NOTE, told)

    def _stumble(self, error: Interrupted) -> None:
        self.trouble = str(error)
