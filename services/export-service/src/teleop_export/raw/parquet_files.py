"""A session as plain tables of Parquet, for whoever reads them without any robot library. Blocks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_runtime.postgres.columns import arrow_type, unpack

from teleop_export.planning.raw_session import RawSession, told_tasks

FRAMES, COLUMNS = "frames.parquet", "columns.parquet"
EPISODES, PAUSES, GAPS = "episodes.parquet", "pauses.parquet", "gaps.parquet"
STATE, ACTION, ADDED = "observation.", "action.", "columns."
COMPRESSION = "zstd"

_WHOSE = {"session_id": pa.int64(), "robot_id": pa.string()}
_COLUMNS = pa.schema(
    {
        **_WHOSE,
        "name": pa.string(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.int64()),
        "names": pa.string(),
    }
)
_EPISODES = pa.schema(
    {
        **_WHOSE,
        "episode_index": pa.int64(),
        "first_frame": pa.int64(),
        "end_frame": pa.int64(),
        "task": pa.string(),
        "tasks": pa.list_(pa.struct({"first_frame": pa.int64(), "task": pa.string()})),
        "outcome": pa.string(),
        "reason": pa.string(),
        "quality": pa.int64(),
        "tags": pa.list_(pa.string()),
        "operator": pa.string(),
    }
)
_PAUSES = pa.schema({**_WHOSE, "first_frame": pa.int64(), "end_frame": pa.int64()})
_GAPS = pa.schema({**_WHOSE, "first_frame": pa.int64(), "end_frame": pa.int64(), "reason": pa.string()})


def write_tables(
    folder: Path, session: RawSession, tables: Iterator[pa.Table], advance: Callable[[int], None]
) -> None:
    """Write what is known of the session into the new folder.

    tables   the session's frames, some at a time; each becomes a row group
    advance  told the frames written so far; may raise to stop
    """
    folder.mkdir()
    schema = frames_schema(session)
    whose = {"session_id": session.session_id, "robot_id": session.robot_id}
    written = 0
    with pq.ParquetWriter(folder / FRAMES, schema, compression=COMPRESSION) as writer:
        for table in tables:
            writer.write_table(_flat(table, schema, session))
            written += table.num_rows
            advance(written)
    columns = [
        {
            **whose,
            "name": column.name,
            "dtype": column.dtype,
            "shape": list(column.shape),
            "names": None if column.names is None else msgspec.json.encode(column.names).decode(),
        }
        for column in session.columns
    ]
    pq.write_table(pa.Table.from_pylist(columns, _COLUMNS), folder / COLUMNS)
    episodes = [
        {
            **whose,
            "episode_index": episode.index,
            "first_frame": episode.first,
            "end_frame": episode.end,
            "task": episode.task or session.task,
            "tasks": told_tasks(episode, session),
            "outcome": episode.outcome,
            "reason": episode.judged.reason,
            "quality": episode.judged.quality,
            "tags": list(episode.judged.tags),
            "operator": episode.judged.operator,
        }
        for episode in session.episodes
    ]
    pq.write_table(pa.Table.from_pylist(episodes, _EPISODES), folder / EPISODES)
    pauses = [{**whose, "first_frame": first, "end_frame": end} for first, end in session.pauses]
    pq.write_table(pa.Table.from_pylist(pauses, _PAUSES), folder / PAUSES)
    gaps = [
        {**whose, "first_frame": gap.first, "end_frame": gap.end, "reason": gap.reason}
        for gap in session.gaps
    ]
    pq.write_table(pa.Table.from_pylist(gaps, _GAPS), folder / GAPS)


def frames_schema(session: RawSession) -> pa.Schema:
    """Columns of the frames: one of float32 per joint of state and action, and what a command added."""
    return pa.schema(
        [
            *_WHOSE.items(),
            ("frame_index", pa.int64()),
            ("timestamp", pa.timestamp("us", tz="UTC")),
            *((STATE + name, pa.float32()) for name in session.state_names),
            *((ACTION + name, pa.float32()) for name in session.action_names),
            *((ADDED + column.name, arrow_type(column)) for column in session.columns),
            ("observation_age_us", pa.int64()),
            ("extra", pa.string()),
        ]
    )


def _flat(table: pa.Table, schema: pa.Schema, session: RawSession) -> pa.Table:
    columns = [
        pa.repeat(pa.scalar(session.session_id), table.num_rows),
        pa.repeat(pa.scalar(session.robot_id), table.num_rows),
        table.column("frame_index"),
        table.column("timestamp"),
    ]
    columns += _joints(table, "state", session.state_names)
    columns += _joints(table, "action", session.action_names)
    columns += unpack(table.column("columns"), session.columns)
    columns += [table.column("observation_age_us"), table.column("extra")]
    return pa.table(columns, schema=schema)


def _joints(table: pa.Table, key: str, names: Sequence[str]) -> list[pa.Array]:
    values = table.column(key).combine_chunks()
    # One view for all joints, instead of a list for each row.
    flat = values.flatten().to_numpy().reshape(table.num_rows, len(names))
    return [pa.array(flat[:, joint]) for joint in range(len(names))]
