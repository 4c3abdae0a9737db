"""Checks video chunks in separate processes, which a hostile file may crash or hang without harm."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import msgspec
from teleop_runtime.logs import get_logger
from teleop_runtime.store import Store
from teleop_schema.depth import DEPTH_CODEC, DEPTH_PIX_FMT
from teleop_schema.files import VideoFile

from teleop_video_ingest.metrics import PROBES
from teleop_video_ingest.model.worker_messages import OF_THE_DECODER, Probed, Question, cause_of

log = get_logger(__name__)

# Starting a process and loading FFmpeg takes 0.2 s, so processes are reused; FFmpeg's leaks end with them.
WORKER = (sys.executable, "-m", "teleop_video_ingest.files.probe_worker")
# Uploads have priority for processors; waiting chunks are checked later.
MAX_WORKERS = 2
# After this many checks it is started again: 0.2 s in 200 checks.
PROBES_PER_WORKER = 200
# More than its processor time, for a busy machine.
PROBE_TIMEOUT_S = 60.0
# Two, because something else may have killed the first process, or kept it from working.
ATTEMPTS = 2
# An answer has one line; a process that writes without end is stopped.
MAX_ANSWER_BYTES = 64 * 1024
US_PER_S = 1_000_000
# Cameras do not have exactly the rate of their files, but they are not half or twice as fast either.
SPAN_OFF_S, SPAN_OFF = 1.0, 0.5


class _Died(Exception):
    """A worker gave no answer; the text says why.

    verdict  whether that says something about the file
    """

    def __init__(self, reason: str, *, verdict: bool) -> None:
        super().__init__(reason)
        self.verdict = verdict


class _Worker:
    """One `probe_worker` process, which has shown that it finds nothing wrong with sound video."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._left = PROBES_PER_WORKER

    @classmethod
    async def start(cls) -> Self:
        """Raises _Died, which is no verdict on any file."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *WORKER,
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_ANSWER_BYTES,
            start_new_session=True,
        )
        worker = cls(process)
        try:
            control = await worker._answer()
            if control.problem is not None:
                raise _Died(f"sound video fails it, too ({control.problem})", verdict=False)
        except BaseException as error:
            await worker.end()
            if isinstance(error, _Died):
                raise _Died(f"the check does not work here: {error}", verdict=False) from error
            raise
        return worker

    async def ask(self, question: Question) -> Probed:
        """Raises _Died."""
        self._left -= 1
        return await self._answer(question)

    async def _answer(self, question: Question | None = None) -> Probed:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101
        assert stdout is not None  # noqa: S101
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                if question is not None:
                    stdin.write(msgspec.json.encode(question) + b"\n")
                    await stdin.drain()
                answer = await stdout.readline()
        except TimeoutError:
            raise _Died(f"it took more than {PROBE_TIMEOUT_S:.0f} seconds", verdict=False) from None
        except (ConnectionError, ValueError, RuntimeError):
            # uvloop raises RuntimeError if the process has already closed its end.
            answer = b""
        if not answer.endswith(b"\n"):
            code = await self._process.wait()
            if -code in OF_THE_DECODER:
                raise _Died(f"the decoder crashed on it ({cause_of(code)})", verdict=True)
            what = "was killed" if code < 0 else "ended"
            raise _Died(f"the process {what} ({cause_of(code)})", verdict=False)
        return msgspec.json.decode(answer, type=Probed)

    @property
    def usable(self) -> bool:
        return self._left > 0 and self._process.returncode is None

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Prober:
    """Checks video files, MAX_WORKERS at a time."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._places = asyncio.Semaphore(MAX_WORKERS)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        """A prober whose processes end with the block."""
        prober = cls()
        try:
            yield prober
        finally:
            for worker in prober._idle:
                await worker.end()

    async def look(self, store: Store, file: VideoFile) -> Probed:
        """The result of a check of `file`'s stored bytes; a file that breaks the decoder is a problem,
        not an error."""
        told = None if file.frames is None else len(file.frames.frame_index)
        return await self.look_at(
            store,
            file.sha256,
            told_frames=told,
            depth=file.depth_unit is not None,
            span_us=file.end_us - file.start_us,
        )

    async def look_at(
        self, store: Store, sha256: str, *, told_frames: int | None, depth: bool, span_us: int
    ) -> Probed:
        """The result of a check of the object, given its sender's number of pictures, whether they are depth,
        and the time within which they were taken."""
        async with self._places, store.as_file(sha256) as path:
            probed = await self._look(Question(str(path), told_frames))
        found = probed.codec, probed.pix_fmt
        if probed.problem is None and depth and found != (DEPTH_CODEC, DEPTH_PIX_FMT):
            problem = f"depth is {DEPTH_CODEC} {DEPTH_PIX_FMT} but this is {probed.codec} {probed.pix_fmt}"
            probed = msgspec.structs.replace(probed, problem=problem)
        if probed.problem is None and span_us and told_frames is None:
            probed = msgspec.structs.replace(probed, problem=_span_problem(span_us, probed))
        verdict = "sound" if probed.problem is None else "problem"
        PROBES.labels(verdict if probed.looked else "failed").inc()
        return probed

    async def _look(self, question: Question) -> Probed:
        died = _Died("", verdict=False)
        for _ in range(ATTEMPTS):
            try:
                async with self._worker() as worker:
                    return await worker.ask(question)
            except _Died as death:
                died = death
                log.warning("a probe died", path=Path(question.path).name, reason=str(death))
                PROBES.labels("died").inc()
        if died.verdict:
            return Probed(problem=str(died))
        return Probed(problem=f"not checked yet: {died}", looked=False)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Worker]:
        """A worker that is idle again after the block, unless the block raised or it has done its share."""
        worker = self._idle.pop() if self._idle else None
        if worker is None or not worker.usable:
            worker = await _Worker.start()
        try:
            yield worker
        except BaseException:
            await worker.end()
            raise
        if worker.usable:
            self._idle.append(worker)
        else:
            await worker.end()


def _span_problem(span_us: int, probed: Probed) -> str | None:
    """The problem, if the pictures can't have been taken between the sender's start and end;
    None otherwise."""
    span_s = span_us / US_PER_S
    if not (probed.frames and probed.fps):
        return None
    lasts_s = probed.frames / probed.fps
    if abs(span_s - lasts_s) <= max(SPAN_OFF_S, SPAN_OFF * max(span_s, lasts_s)):
        return None
    return (
        f"its {probed.frames} pictures at {probed.fps:.4g} per second last {lasts_s:.2f} "
        f"s, but start_timestamp to end_timestamp is {span_s:.2f} s"
    )
