"""Reads a dataset that nobody vouches for, in a process with limits.

`… -m teleop_telemetry.importing.worker <folder of the dataset> <folder to write to> <us>` writes PLAN, JSON
(plan.Answer), and FRAMES, a stream of Arrow with the frames as the table has them. The third is the time of
the first frame if the dataset tells none, us since the Unix epoch.
"""

import sys
from pathlib import Path

import msgspec
import pyarrow as pa
from teleop_dataset.errors import BrokenFile, NotImportable
from teleop_dataset.importing import FrameTables, describe
from teleop_runtime.confined.sandbox import Bounds, confine
from teleop_runtime.postgres.columns import pack
from teleop_schema.files import MAX_FILE_BYTES

from teleop_telemetry.importing.plan import ROWS, Answer, Plan, Refused

PLAN, FRAMES = "plan.json", "frames.arrow"
# A few thousand rows at a time, and what is known of 100,000 episodes.
BOUNDS = Bounds(memory_bytes=2 * 1024**3, file_bytes=MAX_FILE_BYTES, open_files=64, cpu_s=3600)


def main(source: str, made: str, started_us: str) -> None:
    missing = confine(BOUNDS, read=[Path(source)], write=[Path(made)])
    if missing:
        print("not fully confined: ", *missing, file=sys.stderr)
    try:
        answer = Answer(plan=_convert(Path(source), Path(made), int(started_us)))
    except (NotImportable, BrokenFile) as error:
        answer = Answer(refused=Refused(error.detail, error.field, error.hint))
    except MemoryError:
        answer = Answer(refused=Refused("its tables take more memory than an import may"))
    (Path(made) / PLAN).write_bytes(msgspec.json.encode(answer))


def _convert(source: Path, made: Path, started_us: int) -> Plan:
    about = describe(source)
    tables = FrameTables(source, about, started_us)
    first_us = started_us
    with pa.OSFile(str(made / FRAMES), "wb") as file, pa.ipc.new_stream(file, ROWS) as stream:
        for number, (frames, columns) in enumerate(tables.read()):
            if number == 0:
                first_us = frames["timestamp"][0].cast(pa.int64()).as_py()
            packed = pack(columns, about.columns) if columns else pa.nulls(len(frames), pa.binary())
            rows = {name: frames[name] for name in frames.column_names}
            rows["timestamp"] = frames["timestamp"].cast(ROWS.field("timestamp").type)
            rows |= {"extra": pa.nulls(len(frames), pa.string()), "columns": packed}
            stream.write_table(pa.table([rows[name] for name in ROWS.names], ROWS))
    return Plan(
        fps=about.fps,
        robot_type=about.robot_type,
        state_names=list(about.state_names),
        action_names=list(about.action_names),
        columns=list(about.columns),
        cameras=dict(about.cameras),
        episodes=tables.episodes(),
        videos=list(about.videos),
        first_us=first_us,
        knows_times=tables.knows_times,
        notes=list(about.notes),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
