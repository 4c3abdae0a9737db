"""Dataset folders as LeRobot writes them, without video and small, made without LeRobot."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FRAMES = 50
SCHEMA = pa.schema([("index", pa.int64()), ("state", pa.list_(pa.float32(), 6))])


class RowRecorder:
    """Writes a dataset as LeRobot's recorder does: rows are appended, the footers come at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.episodes = 0
        path = folder / "data/chunk-000/file-000.parquet"
        path.parent.mkdir(parents=True)
        (folder / "meta").mkdir()
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, SCHEMA)

    def save_episode(self) -> None:
        """In LeRobot's order: tasks, data, info.json, stats.json."""
        rows = range(self.episodes * FRAMES, (self.episodes + 1) * FRAMES)
        table = pa.table({"index": list(rows), "state": [[float(row)] * 6 for row in rows]}, schema=SCHEMA)
        _write_table(self.folder / "meta/tasks.parquet", {"task_index": [0], "task": ["pick"]})
        self._writer.write_table(table)
        self._file.flush()
        self.episodes += 1
        self._write_json("meta/info.json", self._info())
        self._write_json("meta/stats.json", {"index": {"max": [rows[-1]]}})

    def finalise(self) -> None:
        """Write what is missing, and close."""
        self._writer.close()
        self._file.close()
        episodes = self.folder / "meta/episodes/chunk-000/file-000.parquet"
        _write_table(episodes, {"episode_index": list(range(self.episodes))})

    def die(self) -> None:
        """Let go of the data without its footer: what pyarrow writes on closing is cut off again."""
        size_bytes = self._file.tell()
        self._writer.close()
        self._file.truncate(size_bytes)
        self._file.close()

    def _info(self) -> dict[str, object]:
        return {
            "codebase_version": "v3.0",
            "fps": 30,
            "total_episodes": self.episodes,
            "total_frames": self.episodes * FRAMES,
            "features": {"state": {"dtype": "float32"}},
        }

    def _write_json(self, path: str, content: object) -> None:
        (self.folder / path).write_text(json.dumps(content))


def make_dataset(folder: Path, *, episodes: int = 2, files: Mapping[str, bytes] | None = None) -> Path:
    """A closed dataset, with further files if given."""
    recorder = RowRecorder(folder)
    for _ in range(episodes):
        recorder.save_episode()
    recorder.finalise()
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def flip_bit(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
