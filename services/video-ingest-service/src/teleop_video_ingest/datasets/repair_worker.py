"""Repairs a dataset in a process with limits.

`… -m teleop_video_ingest.datasets.repair_worker closed|torn <source> <target> [earlier info.json]` prints one
line of JSON (worker_messages.Outcome). What its recorder has closed is repaired only if something is wrong.
"""

import sys
from pathlib import Path

import msgspec
from teleop_dataset.repair import Decoding, find_sound, repair
from teleop_runtime.confined.sandbox import Bounds, confine
from teleop_schema.errors import BackendError
from teleop_schema.files import MAX_FILE_BYTES

from teleop_video_ingest.model.worker_messages import Outcome

# What a day of recording needs, and a malicious file may have: more ends only this process.
BOUNDS = Bounds(memory_bytes=8 * 1024**3, file_bytes=MAX_FILE_BYTES, open_files=256, cpu_s=4 * 3600)


def main(state: str, source: str, target: str, earlier_info: str | None = None) -> None:
    read = [Path(each) for each in (source, earlier_info) if each is not None]
    missing = confine(BOUNDS, read=read, write=[Path(target).parent])
    if missing:
        print("not fully confined: ", *missing, file=sys.stderr)
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
