"""What the store and the exports must hold once all is quiet, read without the product's help."""

import hashlib
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from teleop_testing.backends.database import Database
from teleop_testing.datasets.dataset_folders import contents
from teleop_testing.datasets.files import sha256_of
from teleop_testing.waiting import wait_for

FRAMES = """
SELECT state, action FROM teleop_frame JOIN unnest($1::bigint[]) WITH ORDINALITY AS wanted (session_id, place)
 USING (session_id) ORDER BY place, frame_index
"""


class Stored:
    """The objects of a store on a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sound: set[str] = set()

    def check(self, what: str, sha256: str) -> None:
        """Raise AssertionError unless the object is there with the bytes that its name tells of.

        Each is read once: nobody writes to it any more.
        """
        if sha256 in self._sound:
            return
        path = self.root / ".objects" / sha256[:2] / sha256[2:4] / sha256
        assert path.exists(), f"{what} is called stored, but is not in the store"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        assert found == sha256, f"{what} is called stored, but other bytes are in the store"
        self._sound.add(sha256)


def check_dataset(http: httpx.Client, robot_id: str, folder: Path, stored: Stored, agent_log: Path) -> None:
    """Wait until the server has a closed version of the folder as it is, and compare every byte of it."""
    wanted = {path: sha256_of(content) for path, content in contents(folder).items()}
    address = f"/datasets/{robot_id}/{folder.name}"

    def is_there() -> bool:
        answer = http.get(address, params={"limit": 1000})
        return answer.status_code == 200 and _files(answer.json()) == wanted

    try:
        wait_for(is_there)
    except AssertionError:
        log = agent_log.read_text()[-3000:]
        raise AssertionError(f"{folder.name} never came, or not as it is here:\n{log}") from None
    for path, sha256 in wanted.items():
        stored.check(f"{folder.name}/{path}", sha256)
    with tempfile.TemporaryDirectory() as into:
        answer = http.get(f"{address}/restore")
        assert answer.status_code == 200, answer.text
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            tar.extractall(into, filter="data")
        assert contents(Path(into) / folder.name) == contents(folder)


def _files(dataset: dict[str, Any]) -> dict[str, str] | None:
    """Path -> SHA-256 of the newest version if that is closed."""
    if dataset["status"] != "finalised":
        return None
    return {file["path"]: file["sha256"] for file in dataset["files"]}


async def check_rows(folder: Path, export: dict[str, Any], database_url: str, sessions: list[int]) -> None:
    """The rows of an export are frames of the sessions, bit for bit and in order; all but those it names."""
    async with Database.connect(database_url) as database:
        rows = await database.fetch(FRAMES, sessions)
    frames = np.array([row["state"] + row["action"] for row in rows], np.float32)
    files = sorted((folder / "data").rglob("*.parquet"))
    tables = [pq.read_table(path, columns=["observation.state", "action"]) for path in files]
    made = np.concatenate([np.hstack([_values(column) for column in table.columns]) for table in tables])
    report = export["report"]
    assert report["committed"] == len(frames)
    assert len(made) == len(frames) - report["excluded"] == export["numbers"]["frames"]
    left = iter(frames)
    if report["excluded"]:
        assert all(any((row == frame).all() for frame in left) for row in made), "rows that are no frames"
    else:
        np.testing.assert_array_equal(made, frames)


def _values(column: Any) -> NDArray[np.float32]:
    """(rows, width) of a column of vectors."""
    vectors = column.combine_chunks()
    return vectors.values.to_numpy().reshape(len(vectors), -1).astype(np.float32)
