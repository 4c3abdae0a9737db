"""Checks video chunks in separate processes, which a hostile file may crash or hang without harm."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
from teleop_runtime.confined.ends import OF_THE_DECODER, cause_of
from teleop_runtime.confined.handed import send
from teleop_runtime.confined.start import channel, command_of, worker_environment
from teleop_runtime.logs import get_logger
from teleop_runtime.store import Store
from teleop_runtime.turns import Turns
from teleop_schema.depth import DEPTH_CODEC, DEPTH_PIX_FMT
from teleop_schema.files import VideoFile
from teleop_schema.words import counted

from teleop_video_ingest.metrics import PROBES
from teleop_video_ingest.model.worker_messages import Probed, Question

log = get_logger(__name__)

# Starting a process and loading FFmpeg takes 0.2 s, so processes are reused; FFmpeg's leaks end with them.
WORKER = command_of("teleop_video_ingest.files.probe_worker")
# Uploads have priority for processors; waiting chunks are checked later.
MAX_WORKERS = 2
# After this many checks it is started again: 0.2 s in 200 checks.
PROBES_PER_WORKER = 200
# Processor time of a check right after the upload: a chunk of a minute in 4K takes one second. What takes
# longer waits for a check of its own, which nobody else's file waits for; and what takes longer than that
# was made to.
FIRST_CPU_S, MAX_CPU_S = 5, 45
# More than its processor time, for a busy machine.
PROBE_TIMEOUT_S = 60.0
# A process that has closed its output has nothing left to do.
ENDS_WITHIN_S = 10.0
# Two, because something else may have killed the first process, or kept it from working.
ATTEMPTS = 2
# Of one robot; for more, the check comes later.
MAX_WAITING = 64
# An answer has one line; a process that writes without end is stopped.
MAX_ANSWER_BYTES = 64 * 1024
US_PER_S = 1_000_000
# Cameras do not have exactly the rate of their files, but they are not half or twice as fast either.
SPAN_OFF_S, SPAN_OFF = 1.0, 0.5
NOT_YET = Probed(problem="not checked yet: other video of this robot is checked first", looked=False)


class _Died(Exception):
    """A worker gave no answer; the text says why.

    verdict  whether that says something about the file
    late     it took too long: another attempt would, too
    """

    def __init__(self, reason: str, *, verdict: bool, late: bool = False) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.late = late


class _Worker:
    """One `probe_worker` process, which has shown that it finds nothing wrong with sound video."""

    def __init__(self, process: asyncio.subprocess.Process, questions: socket.socket) -> None:
        self._process = process
        self._questions = questions
        self._left = PROBES_PER_WORKER
        self.missing: list[str] = []

    @classmethod
    async def start(cls) -> Self:
        """Raises _Died, which is no verdict on any file."""
        ours, theirs = channel()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *WORKER,
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.PIPE,
                # FFmpeg writes what it thinks of a file; a hostile one could fill the log.
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_ANSWER_BYTES,
                start_new_session=True,
                env=worker_environment(),
            )
        worker = cls(process, ours)
        try:
            # Its first answer is on sound video that it brings along: a broken FFmpeg must not condemn every
            # file.
            control = await worker._answer()
            worker.missing = control.missing
            if control.problem is not None:
                raise _Died(f"sound video fails it, too ({control.problem})", verdict=False)
        except BaseException as error:
            await worker.end()
            if isinstance(error, _Died):
                why = f"the check does not work here: {error}"
                raise _Died(why, verdict=False, late=error.late) from error
            raise
        return worker

    async def ask(self, question: Question, file: int) -> Probed:
        """Raises _Died."""
        self._left -= 1
        # A process that has ended is told below. The socket has room for a question: there is only one.
        with contextlib.suppress(OSError):
            send(self._questions, msgspec.json.encode(question) + b"\n", [file])
        return await self._answer()

    async def _answer(self) -> Probed:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                answer = await stdout.readline()
        except TimeoutError:
            raise _Died(
                f"it took more than {PROBE_TIMEOUT_S:.0f} seconds", verdict=False, late=True
            ) from None
        except ValueError:
            answer = b""
        if not answer.endswith(b"\n"):
            code = await self._code()
            if code == -signal.SIGXCPU:
                raise _Died("it takes too much processor time", verdict=True, late=True)
            if -code in OF_THE_DECODER:
                raise _Died(f"the decoder crashed on it ({cause_of(code)})", verdict=True)
            what = "was killed" if code < 0 else "ended"
            raise _Died(f"the process {what} ({cause_of(code)})", verdict=False)
        return msgspec.json.decode(answer, type=Probed)

    async def _code(self) -> int:
        """How a process ended that has closed its output; one that goes on is killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN_S):
                return await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()

    @property
    def usable(self) -> bool:
        return self._left > 0 and self._process.returncode is None

    async def end(self) -> None:
        self._questions.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Prober:
    """Checks video files: MAX_WORKERS at a time of those that have just arrived, and one that takes long."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._turns = Turns(MAX_WORKERS)
        self._slow = asyncio.Semaphore(1)
        self._going_on: set[asyncio.Task[Any]] = set()
        self._missing: list[str] | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        """A prober whose processes end with the block."""
        prober = cls()
        try:
            yield prober
        finally:
            for task in prober._going_on:
                task.cancel()
            await asyncio.gather(*prober._going_on, return_exceptions=True)
            for worker in prober._idle:
                await worker.end()

    def go_on[Result](self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Work that goes on if nobody waits for it any more; the prober's end ends it."""
        task = asyncio.create_task(work)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return task

    async def check(self) -> None:
        """For `/readyz`; raises, saying how this system does not confine the checks."""
        if self._missing:
            raise RuntimeError(f"checks of video are not fully confined: {'; '.join(self._missing)}")

    async def look(self, store: Store, file: VideoFile) -> Probed:
        """The result of a check of `file`'s stored bytes; a file that breaks the decoder is a problem,
        not an error."""
        if self._turns.waiting(file.robot_id) >= MAX_WAITING:
            return NOT_YET
        told = None if file.frames is None else len(file.frames.frame_index)
        async with self._turns.place(file.robot_id):
            return await self._judge(
                store,
                file.sha256,
                Question(told, FIRST_CPU_S),
                depth=file.depth_unit is not None,
                span_us=file.end_us - file.start_us,
            )

    async def look_at(
        self,
        store: Store,
        sha256: str,
        *,
        robot_id: str,
        told_frames: int | None,
        depth: bool,
        span_us: int,
        slow: bool,
    ) -> Probed:
        """The result of a later check of the object, given its sender's number of pictures, whether they are
        depth, and the time within which they were taken.

        slow  a first check did not suffice: it may take all of MAX_CPU_S, while others are checked
        """
        async with self._slow if slow else self._turns.place(robot_id):
            question = Question(told_frames, MAX_CPU_S if slow else FIRST_CPU_S)
            return await self._judge(store, sha256, question, depth=depth, span_us=span_us)

    async def _judge(
        self, store: Store, sha256: str, question: Question, *, depth: bool, span_us: int
    ) -> Probed:
        async with store.as_file(sha256) as path:
            probed = await self._look(question, path)
        found = probed.codec, probed.pix_fmt
        if probed.problem is None and depth and found != (DEPTH_CODEC, DEPTH_PIX_FMT):
            problem = f"depth is {DEPTH_CODEC} {DEPTH_PIX_FMT} but this is {probed.codec} {probed.pix_fmt}"
            probed = msgspec.structs.replace(probed, problem=problem)
        if probed.problem is None and span_us and question.frames is None:
            probed = msgspec.structs.replace(probed, problem=_span_problem(span_us, probed))
        verdict = "sound" if probed.problem is None else "problem"
        PROBES.labels(verdict if probed.looked else "failed").inc()
        return probed

    async def _look(self, question: Question, path: Path) -> Probed:
        died = _Died("", verdict=False)
        for _ in range(ATTEMPTS):
            try:
                with _opened(path) as file:
                    async with self._worker() as worker:
                        return await worker.ask(question, file)
            except OSError as error:
                return Probed(
                    problem=f"not checked yet: the file can't be read: {error.strerror}", looked=False
                )
            except _Died as death:
                died = death
                log.warning("a probe died", path=path.name, reason=str(death))
                PROBES.labels("died").inc()
            # What took too long once will again, and would keep the turn from others twice.
            if died.late:
                break
        slow = died.late and died.verdict and question.cpu_s < MAX_CPU_S
        if died.verdict and not slow:
            return Probed(problem=str(died))
        return Probed(problem=f"not checked yet: {died}", looked=False, slow=slow)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Worker]:
        """A worker that is idle again after the block, unless the block raised or it has done its share."""
        worker = self._idle.pop() if self._idle else None
        if worker is not None and not worker.usable:
            await worker.end()
            worker = None
        if worker is None:
            worker = await _Worker.start()
            self._note_missing(worker.missing)
        try:
            yield worker
        except BaseException:
            await worker.end()
            raise
        if worker.usable:
            self._idle.append(worker)
        else:
            await worker.end()

    def _note_missing(self, missing: list[str]) -> None:
        if self._missing is None and missing:
            log.warning("checks of video are not fully confined on this system", missing=missing)
        self._missing = missing


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Without waiting: opening a local file takes no time that anybody would notice.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


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
        f"with {counted(probed.frames, 'picture')} at {probed.fps:.4g} per second it lasts {lasts_s:.2f} s, "
        f"but start_timestamp to end_timestamp is {span_s:.2f} s"
    )
