"""A version of a dataset, read by a confined process, as a plan and a file of frames."""

import asyncio
import math
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
from teleop_dataset.errors import NotImportable
from teleop_runtime.confined.ends import OF_THE_DECODER, cause_of
from teleop_runtime.confined.once import Died, run_once
from teleop_runtime.confined.scratch import clear, lay
from teleop_runtime.logs import get_logger
from teleop_runtime.store import Store
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import BackendError, Overloaded
from teleop_schema.identifiers import local_path

from teleop_telemetry.importing.import_table import StoredFile
from teleop_telemetry.importing.plan import ROWS, Answer, Plan
from teleop_telemetry.importing.worker import FRAMES, PLAN

log = get_logger(__name__)

# Twice its processor time: the disk may be busy.
READ_TIMEOUT_S = 2 * 3600.0
# So long ago that nobody works on it any more, whatever the clocks show.
LEFTOVER_S = 2 * READ_TIMEOUT_S
# 100,000 episodes with some tasks each take 30 MB.
MAX_PLAN_BYTES = 256 * 1024**2
# A frame that some session happens to have, too, is none for long.
SAMPLES = 5
# What is read of a dataset; of its videos only which there are.
READ = ("meta/", "data/")


@dataclass(frozen=True)
class Converted:
    """A dataset as a session, its frames in a file."""

    plan: Plan
    path: Path

    def tables(self, first: int) -> Iterator[pa.Table]:
        """The frames from number `first` on, a few thousand at a time, as `encode_tables` takes them.

        Raises NotImportable if the file is not what it should be.
        """
        reached = 0
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            if stream.schema != ROWS:
                raise NotImportable("the frames that were read have other columns")
            for batch in stream:
                batch.validate(full=True)
                table = pa.Table.from_batches([batch])
                indexes = table["frame_index"]
                if indexes[0].as_py() != reached or indexes[-1].as_py() != reached + len(table) - 1:
                    raise NotImportable("the frames that were read are not in order")
                reached += len(table)
                if reached > first:
                    yield table.slice(max(0, first - (reached - len(table))))

    def samples(self) -> list[dict[str, list[float]]]:
        """State and action of some frames, all finite, from the middle of up to SAMPLES episodes; none if
        its robot has no state or no actions.

        One in the middle: at their ends, arms rest where they always do.
        """
        plan = self.plan
        if not (plan.state_names and plan.action_names):
            return []
        chosen = plan.episodes[:: max(1, len(plan.episodes) // SAMPLES)][:SAMPLES]
        wanted = {(each.first + each.end) // 2 for each in chosen}
        found = []
        for table in self.tables(0):
            first = table["frame_index"][0].as_py()
            for number in sorted(each for each in wanted if first <= each < first + len(table)):
                row = {name: table[name][number - first].as_py() for name in ("state", "action")}
                if all(map(math.isfinite, row["state"] + row["action"])):
                    found.append(row)
        return found


@asynccontextmanager
async def converted(
    store: Store, scratch: Path, files: Sequence[StoredFile], started_us: int
) -> AsyncIterator[Converted]:
    """The dataset that consists of these files, until the block ends, which removes what was made of it.

    scratch     a folder for it, on the file system of a local store, so that nothing is copied
    started_us  time of the first frame if the dataset tells none
    raises      NotImportable, Overloaded, ObjectMissing
    """
    await asyncio.to_thread(clear, scratch, LEFTOVER_S)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=scratch, prefix="import-"))
    try:
        # Apart, because the process may write in the one folder, and must not in the other.
        source, made = folder / "source", folder / "made"
        for each in (source, made):
            await asyncio.to_thread(each.mkdir)
        for file in files:
            if file.path.startswith(READ):
                async with store.as_file(file.sha256) as stored:
                    await asyncio.to_thread(lay, stored, source / local_path(file.path))
        await _run(source, made, started_us)
        yield Converted(await asyncio.to_thread(_plan, made), made / FRAMES)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _run(source: Path, made: Path, started_us: int) -> None:
    """Raises NotImportable if the files crash the process, Overloaded if something else ended it."""
    words = (str(source), str(made), str(started_us))
    try:
        await run_once("teleop_telemetry.importing.worker", *words, timeout_s=READ_TIMEOUT_S, told=False)
    except TimeoutError:
        raise NotImportable(f"reading it took more than {READ_TIMEOUT_S:.0f} s") from None
    except Died as end:
        log.error("an import's process died", returncode=end.returncode, stderr=end.complaint)
        raise _why(end.returncode) from None


def _why(returncode: int) -> BackendError:
    """What a process that gave no answer says about the dataset: nothing, unless it crashed on it."""
    if -returncode in OF_THE_DECODER:
        return NotImportable(f"reading its tables crashed ({cause_of(returncode)})")
    if returncode < 0:
        return Overloaded(f"the import was killed ({cause_of(returncode)})", hint="ask for it again")
    return BackendError("the import failed by a mistake of its own; the log of the backend has the details")


def _plan(made: Path) -> Plan:
    path = made / PLAN
    if path.stat().st_size > MAX_PLAN_BYTES:
        raise NotImportable("it has too many episodes", limit=MAX_PLAN_BYTES)
    try:
        answer = msgspec.json.decode(path.read_bytes(), type=Answer)
    except DECODE_ERRORS as error:
        raise NotImportable(f"what was read of it is damaged: {error}") from None
    if answer.refused is not None:
        raise NotImportable(answer.refused.detail, field=answer.refused.field, hint=answer.refused.hint)
    if answer.plan is None:
        raise NotImportable("nothing was read of it")
    return answer.plan
