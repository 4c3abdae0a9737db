"""From an order of raw sessions to a folder of files. Blocks, so it runs in a thread."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa

from teleop_export.making.frame_source import Reader, read_pieces
from teleop_export.making.media_process import MediaPool
from teleop_export.making.video_source import CameraPictures, Chunks, Files
from teleop_export.planning.pieces import bytes_of
from teleop_export.planning.raw_order import RawOrder
from teleop_export.planning.raw_session import RawSession, told_tasks
from teleop_export.planning.report import Built
from teleop_export.planning.stages import Content, Watch
from teleop_export.raw.mcap_files import write_mcap
from teleop_export.raw.parquet_files import (
    ACTION,
    ADDED,
    COLUMNS,
    EPISODES,
    FRAMES,
    GAPS,
    PAUSES,
    STATE,
    write_tables,
)

README, REPORT = "README.md", "report.json"

ABOUT_PARQUET = f"""\
# Recorded sessions as Parquet

One folder per session, everything as it was recorded: discarded episodes too, and what lies between episodes.

| {FRAMES} | |
|---|---|
| session_id, robot_id | int64, string: the same in all rows of a folder, for tables of several |
| frame_index | int64, the loop's iteration; one that is missing was never stored, {GAPS} says why |
| timestamp | timestamp[us, UTC], when the sample was taken, by the robot's clock |
| {STATE}<name> | float32, one column per value of the observation, in the robot's own unit |
| {ACTION}<name> | float32, one column per value of the action that was sent |
| {ADDED}<name> | what the recording command added, in the type that {COLUMNS} tells, to the last bit; \
where the shape is not [1], a list of all of its values in C order; null: the frame has no value of it |
| observation_age_us | int64: how old an observation was that the frame repeats; null: it has its own |
| extra | string, JSON of whatever else came with the frame, or null |

| {COLUMNS} | |
|---|---|
| session_id, robot_id | as above |
| name | string, behind the prefix {ADDED} of {FRAMES} |
| dtype | string: as numpy calls it, or "string" |
| shape | list of int64: of one frame's value |
| names | string, JSON of what these values are called, or null |

| {EPISODES} | |
|---|---|
| session_id, robot_id | as above |
| episode_index | int64 |
| first_frame, end_frame | int64, half open; end_frame is null if the episode was never ended |
| task | string, or null: of its first frame |
| tasks | list of (first_frame int64, task string or null): its tasks one after the other |
| outcome | success, failure, discarded, or null |
| reason, operator | string, or null: why it has its outcome, and who drove |
| quality | int64, 1 (poor) to 5, or null |
| tags | list of string |

| {PAUSES} | |
|---|---|
| session_id, robot_id | as above |
| first_frame, end_frame | int64, half open: recorded within an episode, but not added to LeRobot's dataset, \
in which the rows before and after follow each other |

| {GAPS} | |
|---|---|
| session_id, robot_id | as above |
| first_frame, end_frame | int64, half open: frames that were never stored |
| reason | string |

Pictures are not in these files: {REPORT} names the cameras of each session under `pictures_left_out`, and
`GET /sessions/<id>/videos` of the backend has their video.

{REPORT} accounts for every frame of every session.
"""

ABOUT_MCAP = f"""\
# Recorded sessions as MCAP

One file per session, for Foxglove and everything else that reads MCAP (https://mcap.dev). A message's log
time is when the sample or the picture was taken, by the robot's clock.

| topic | messages |
|---|---|
| /robot/state | foxglove.JointStates: joints by name, in the robot's own unit; `sequence`: frame index |
| /robot/action | the same of what was sent to the robot |
| /columns/<name> | what the recording command added, in messages of its type: `value`, or `values` in C \
order where the shape is not [1]; a frame without a value has no message |
| /camera/<name> | foxglove.CompressedVideo: the recorded pictures as they were compressed, none left out |

Depth is HEVC of 12 bits without loss, which few players show; what its codes stand for is in its channel's
metadata, as `info.json` of a LeRobot dataset has it.

Metadata records tell session, episodes with their tasks and what was judged of them, pauses of episodes
(frames, half open, that LeRobot's dataset did not take), gaps with their reasons, and of each column its
dtype, shape and names.
{REPORT} accounts for every frame of every session.
"""


def build_raw(
    root: Path, order: RawOrder, reader: Reader, chunks: Chunks, files: Files, media: MediaPool, watch: Watch
) -> Built:
    """Write the sessions of `order` into the empty folder `root`.

    Memory is bounded by two fetches of frames, and by what is known of one session's pictures.
    Raises RecordingChanged, VideoUnreadable, VideoDiffers, OSError, and what `watch` raises.
    """
    total = order.report.exported + sum(_pictures(session) for session in order.sessions)
    done = 0
    for session in order.sessions:
        _write(root, order, session, reader, chunks, files, media, partial(_tell, watch, done, total))
        done += session.committed + _pictures(session)
    # Whoever watches sees it end at all of it.
    watch("data", total, total)
    (root / README).write_text(ABOUT_PARQUET if order.format == "parquet" else ABOUT_MCAP, "utf-8")
    (root / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(order.report), indent=4))
    paths = [path for path in root.rglob("*") if path.is_file()]
    content = Content(
        episodes=sum(len(session.episodes) for session in order.sessions),
        frames=order.report.exported,
        tasks=_tasks(order),
        files=len(paths),
        size_bytes=sum(path.stat().st_size for path in paths),
        videos=sum(len(session.footage) for session in order.sessions) if order.format == "mcap" else 0,
        video_bytes=0,
    )
    return Built(content=content, report=order.report)


def _write(
    root: Path,
    order: RawOrder,
    session: RawSession,
    reader: Reader,
    chunks: Chunks,
    files: Files,
    media: MediaPool,
    advance: Callable[[int], None],
) -> None:
    tables = _tables(session, reader)
    path = root / f"session-{session.session_id}"
    if order.format == "parquet":
        write_tables(path, session, tables, advance)
        return
    with ExitStack() as stack:

        def opened(camera: str, ids: Sequence[int]) -> CameraPictures:
            # A process for each camera, ended with the session: what a file does to it reaches no other.
            opening = stack.enter_context(media.lend(None)).open
            read = CameraPictures.read(chunks, files, opening, session.session_id, camera, ids)
            return stack.enter_context(closing(read))

        footages = {camera: opened(camera, footage.chunks) for camera, footage in session.footage.items()}
        write_mcap(path.with_suffix(".mcap"), session, tables, footages, advance)


def _tables(session: RawSession, reader: Reader) -> Iterator[pa.Table]:
    if not session.pieces:
        return
    batches = read_pieces(
        reader,
        session.pieces,
        state_width=len(session.state_names),
        action_width=len(session.action_names),
        column_bytes=bytes_of(session.columns),
    )
    for fetched in batches:
        yield fetched.frames


def _pictures(session: RawSession) -> int:
    return sum(footage.pictures for footage in session.footage.values())


def _tasks(order: RawOrder) -> int:
    """How many different ones the episodes have."""
    told = [
        each["task"]
        for session in order.sessions
        for episode in session.episodes
        for each in told_tasks(episode, session)
    ]
    return len({task for task in told if task})


def _tell(watch: Watch, before: int, total: int, done: int) -> None:
    watch("data", before + done, total)
