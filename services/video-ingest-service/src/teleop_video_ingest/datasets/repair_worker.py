"""Repairs a dataset in a process with limits.

`… -m teleop_video_ingest.datasets.repair_worker closed|torn <source> <target> [earlier info.json]` prints one
line of JSON (worker_messages.Outcome). What its recorder has closed is repaired only if something is wrong.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path

import msgspec
from teleop_dataset.repair import Decoding, find_sound, repair
from teleop_schema.errors import BackendError

from teleop_video_ingest.model.worker_messages import Outcome

# A malicious file that needs more memory ends only this process.
MAX_MEMORY_BYTES = 8 * 1024**3
# A malicious file that takes forever ends only this process.
MAX_CPU_S = 4 * 3600
# Uploads have priority.
NICE = 10


def main(state: str, source: str, target: str, earlier_info: str | None = None) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_CORE, 0),
    ):
        # Not every system allows every limit to be lowered.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))
    os.nice(NICE)
    earlier = None if earlier_info is None else Path(earlier_info)
    try:
        outcome = _repair(Path(source), Path(target), earlier, closed=state == "closed")
    except BackendError as error:
        outcome = Outcome(episodes=0, frames=0, report=error.detail)
    print(msgspec.json.encode(outcome).decode())


def _repair(source: Path, target: Path, earlier_info: Path | None, *, closed: bool) -> Outcome:
    decoding = Decoding()
    if closed and (sound := find_sound(source, decoding)):
        return Outcome(episodes=sound.episodes, frames=sound.frames, report=sound.as_text(), sound=True)
    report = repair(source, target, earlier_info=earlier_info, decoding=decoding)
    return Outcome(episodes=report.episodes, frames=report.frames, report=report.as_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
