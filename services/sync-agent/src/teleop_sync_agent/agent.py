"""Composition of the agent: one event loop, one connection to the backend, and everything that uses it."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from teleop_client.backend_http import BackendHttp
from teleop_client.uploading import Interrupted, Refused
from teleop_dataset.readiness import QUIET_NS
from teleop_schema.decoding import prepare_types
from teleop_schema.files import DatasetVersion

from teleop_sync_agent.errors import AgentError, ServerAway, Stuck, first_of
from teleop_sync_agent.keeping.receipts import Receipts
from teleop_sync_agent.keeping.state import AgentState, state_path
from teleop_sync_agent.restoring.reaper import Reaper
from teleop_sync_agent.sending.dataset_sync import DatasetSync
from teleop_sync_agent.sending.datasets import Datasets, Tended
from teleop_sync_agent.sending.finder import Finder
from teleop_sync_agent.sending.lanes import Lanes, LaneUploader, Priority
from teleop_sync_agent.sending.own_streams import OwnStreams
from teleop_sync_agent.sending.recall import Recall
from teleop_sync_agent.sending.spool_sync import SpoolSync
from teleop_sync_agent.sending.tender import Tender
from teleop_sync_agent.settings import Settings
from teleop_sync_agent.status import NOW_NOTE, Now, describe_quota, is_due

# `pause` takes effect within a second.
CONTROL_S = 0.5
# `status` is accurate to the second.
REPORT_S = 1.0
# How long any backend may take to show that it is there, before `once` calls it away.
PING_S = 5.0
# One line each; a root that can't be read may cause any number of problems.
MAX_PROBLEMS_TOLD = 1000
# Part of the patience of `once` that it spends on other processes that are sending streams.
# Datasets come next.
OTHERS_SHARE = 2 / 3

log = logging.getLogger(__name__)


class Agent:
    """Everything that one `sync-agent` does. Use it as a context; it locks its roots until the end."""

    def __init__(self, settings: Settings, *, quiet_ns: int = QUIET_NS) -> None:
        """Raises AgentError if the state can't be opened, Taken if another agent holds it, or a root.

        quiet_ns  how long an unfinished dataset must not change before its recorder counts as dead
        """
        self.settings = settings
        self.state = AgentState(state_path(settings.state_dir, settings.robot_id), hold=True)
        self.state.set_room_aside()
        self._receipts = {root: Receipts(root) for root in settings.roots}
        prepare_types()
        try:
            for root, receipts in self._receipts.items():
                if receipts.hold():
                    log.warning("the watched folder did not exist and was created", extra={"root": str(root)})
        except BaseException:
            self.close()
            raise
        # Before anything is looked at: what another server has confirmed proves nothing here.
        self.state.use_server(settings.server)
        self.lanes = Lanes(settings.bandwidth)
        self._uploaders = [
            LaneUploader(
                settings.server,
                self.lanes,
                priority,
                tokens=settings.tokens,
                robot_id=settings.robot_id,
            )
            # Samples have connections of their own: they go by WebSocket.
            for priority in (Priority.VIDEO, Priority.DATASET)
        ]
        videos, files = self._uploaders
        streams = OwnStreams(settings.spool_dir, settings.robot_id, settings.server)
        self.spool = SpoolSync(streams, self.lanes, videos, tokens=settings.tokens)
        sync = DatasetSync(
            settings.robot_id, files, self.state, parallel=settings.parallel, server=settings.server
        )
        self.datasets = Datasets(self.state)
        self.finder = Finder(self.datasets, self.state, self._receipts)
        self.tender = Tender(
            self.datasets,
            self.finder,
            sync,
            self.state,
            self._receipts,
            quiet_ns=quiet_ns,
            saved=self._count_version,
        )
        self._recall = Recall(streams, files.backend, self.state, self.datasets, self.spool)
        self._reaper = Reaper(
            settings.robot_id,
            self.datasets,
            self.state,
            self._receipts,
            files,
            below=settings.reclaim_below,
            server=settings.server,
            doubt=self._recall.want,
        )
        self._versions = 0

    def close(self) -> None:
        """Release the roots."""
        for receipts in self._receipts.values():
            receipts.release()
        self.state.close()

    @property
    def problems(self) -> tuple[str, ...]:
        """What can't be read here, can't be sent, or is left alone, and why."""
        return (*self.spool.now.problems, *self.finder.problems)[:MAX_PROBLEMS_TOLD]

    @property
    def sent_bytes(self) -> int:
        """Bytes of files that this process has sent."""
        return sum(uploader.sent_bytes for uploader in self._uploaders)

    async def run(self) -> None:
        """Work forever. Raises AgentError if it can't."""
        roots = [str(root) for root in self.settings.roots]
        log.info("watching", extra={"roots": roots, "server": self.settings.server})
        try:
            async with self._connections(), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._control())
                tasks.create_task(self._report())
                tasks.create_task(self._recall.run())
                tasks.create_task(self.spool.run())
                tasks.create_task(self.tender.run())
                tasks.create_task(self._reaper.run())
        except* AgentError as errors:
            raise first_of(errors) from None

    async def once(self, timeout_s: float) -> list[str]:
        """Send what is here to the server; returns a line, for people, for each thing
        that is not safe there then.

        Raises ServerAway or Stuck after `timeout_s` without progress.
        """
        try:
            async with self._connections(), asyncio.TaskGroup() as tasks:
                spool_done = asyncio.Event()
                watching = tasks.create_task(self._fail_when_stuck(timeout_s, spool_done))
                reporting = tasks.create_task(self._report())
                # First find out what the server has forgotten, so that it is sent too.
                await self._recall.once()
                unsafe = await self.spool.once(timeout_s * OTHERS_SHARE)
                spool_done.set()
                unsafe += await self.tender.once()
                watching.cancel()
                reporting.cancel()
        except* AgentError as errors:
            raise first_of(errors) from None
        return [*unsafe, *(f"not sent: {problem}" for problem in self.problems)]

    def figures(self) -> Iterator[tuple[str, str, float, dict[str, str]]]:
        """The metrics: name, help, value, labels."""
        states = [tended.row.state for tended in list(self.datasets.tended.values())]
        yield "sync_agent_sent_bytes_total", "Bytes of files sent.", self.sent_bytes, {}
        yield "sync_agent_versions_total", "Versions of datasets committed.", self._versions, {}
        segments = self.spool.now
        yield "sync_agent_video_segments_total", "Video segments stored.", segments.stored_segments, {}
        yield "sync_agent_open", "1 unless paused or outside its upload hours.", float(self.lanes.is_open), {}
        yield "sync_agent_spooled_streams", "Streams with unsent data.", segments.samples, {"of": "samples"}
        yield "sync_agent_spooled_streams", "Streams with unsent data.", segments.videos, {"of": "video"}
        for state in ("waiting", "sending", "stored", "failed", "unsupported", "reclaimed", "lost"):
            yield "sync_agent_datasets", "Datasets by state.", states.count(state), {"state": state}

    @asynccontextmanager
    async def _connections(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for uploader in self._uploaders:
                await uploader.close()
            await asyncio.to_thread(self._tell, self._now(ended=True))

    async def _control(self) -> None:
        """Open and close the lanes, according to `pause`, `resume` and the hours of the day."""
        while True:
            paused = await asyncio.to_thread(lambda: self.state.paused)
            between = self.settings.between
            self.lanes.set_open(not paused and (between is None or between.holds(datetime.now().time())))
            await asyncio.sleep(CONTROL_S)

    async def _report(self) -> None:
        """Report the progress to `status` every second, and new problems to the log."""
        told: Now | None = None
        sent: dict[Path, int] = {}
        while True:
            await asyncio.sleep(REPORT_S)
            for folder, tended in list(self.datasets.tended.items()):
                sent[folder] = await self.datasets.note_progress(tended, sent.get(folder, 0), REPORT_S)
            now = self._now()
            if told and told.trouble and not now.trouble:
                # The server is back: perhaps as another one, or with an older database.
                self._recall.want()
            if now.trouble and now.trouble != (told and told.trouble):
                log.warning("trying again", extra={"trouble": now.trouble})
            if now.quota and not (told and told.quota):
                log.warning("storage on the server is nearly used", extra={"quota": now.quota})
            for problem in sorted(set(now.problems) - set(told.problems if told else ())):
                log.error("not sent", extra={"problem": problem})
            if is_due(now, told):
                told = now
                await asyncio.to_thread(self._tell, now)

    def _tell(self, now: Now) -> None:
        self.state.set_note(NOW_NOTE, msgspec.json.encode(now))

    def _now(self, *, ended: bool = False) -> Now:
        spool = self.spool.now
        return Now(
            at=time.time(),
            ended=ended,
            pid=os.getpid(),
            server=self.settings.server,
            paused=not self.lanes.is_open,
            trouble=self._trouble(),
            quota=self._quota(),
            samples=spool.samples,
            videos=spool.videos,
            waiting_frames=spool.waiting_frames,
            waiting_segments=spool.waiting_segments,
            waiting_bytes=spool.waiting_bytes,
            stored_segments=spool.stored_segments,
            refused_segments=spool.refused_segments,
            sent_bytes=self.sent_bytes,
            slowest_sync_ms=spool.slowest_sync_ms,
            asked_at=self._recall.asked_at,
            problems=self.problems,
            erased=spool.erased[:MAX_PROBLEMS_TOLD],
            again_streams=spool.again_streams,
            again_segments=spool.again_segments,
        )

    async def _fail_when_stuck(self, timeout_s: float, spool_done: asyncio.Event) -> None:
        """Raise after this time without progress: ServerAway, or Stuck if the server can be reached.

        spool_done  set once trouble with samples is no longer a reason to give up the rest
        """
        before, since_s = self._achieved(), time.monotonic()
        while True:
            await asyncio.sleep(REPORT_S)
            if self._achieved() != before:
                before, since_s = self._achieved(), time.monotonic()
            elif time.monotonic() - since_s >= timeout_s:
                trouble = self._trouble(of_spool=not spool_done.is_set())
                async with self._backend() as backend:
                    if why := await why_away(backend, PING_S):
                        raise ServerAway.of(why, after_s=timeout_s)
                if trouble is not None:
                    raise Stuck(f"no progress for {timeout_s:g} seconds: {trouble}")
                # Large files are being hashed, here or on the server.
                since_s = time.monotonic()

    def _backend(self) -> BackendHttp:
        return BackendHttp(self.settings.server, tokens=self.settings.tokens, robot_id=self.settings.robot_id)

    def _trouble(self, *, of_spool: bool = True) -> str | None:
        """Why something has to be tried again; None if everything works."""
        uploads = (uploader.trouble for uploader in self._uploaders)
        troubles = (of_spool and self.spool.now.trouble, *uploads, self._recall.trouble)
        return next((trouble for trouble in troubles if trouble), None)

    def _quota(self) -> str | None:
        """What the server says of the robot's quota; None: it is not nearly used, or there is none."""
        quotas = [uploader.quota for uploader in self._uploaders if uploader.quota is not None]
        return describe_quota(max(quotas, key=lambda each: each.used_bytes)) if quotas else None

    def _achieved(self) -> tuple[int, ...]:
        """A value that changes whenever there is progress."""
        now = self.spool.now
        gained_bytes = sum(uploader.gained_bytes for uploader in self._uploaders)
        return gained_bytes, self._versions, now.acked, now.stored_segments

    def _count_version(self, _tended: Tended, _version: DatasetVersion) -> None:
        self._versions += 1


async def why_away(backend: BackendHttp, patience_s: float) -> str | None:
    """Why no backend answers; None if one does."""
    try:
        async with backend.request("OPTIONS", "/files", patience_s=patience_s):
            return None
    except Refused:
        return None
    except Interrupted as error:
        return str(error) if error.code is None else None
