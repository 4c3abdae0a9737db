"""What an export holds in memory at a time."""

import asyncio
import subprocess
import sys
from itertools import pairwise

import pytest
from teleop_testing.waiting import PATIENCE_S

PROGRAM = """
import asyncio, sys
from contextlib import closing
from pathlib import Path
import msgspec
from teleop_export.making.build import build
from teleop_export.tables.chunk_table import ChunkReader
from teleop_export.planning.order import Order
from teleop_export.making.media_process import MediaPool
from teleop_export.making.stored_files import StoredFiles
from teleop_runtime.postgres.frames import FrameReader
from teleop_runtime.store import open_store
from teleop_testing.machine.memory import peak_bytes

root, url = Path(sys.argv[1]), sys.argv[2]
order = msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=Order)
root.mkdir()

async def main():
    files = StoredFiles(open_store(sys.argv[4]), asyncio.get_running_loop())
    with FrameReader(url) as reader, closing(ChunkReader(url)) as chunks:
        work = root, order, reader, chunks, files, MediaPool()
        await asyncio.to_thread(build, *work, lambda stage, done, total: None)

asyncio.run(main())
print(peak_bytes() // 1024**2)
"""


@pytest.fixture
def peak_mb(record, film, store, database, database_url, tmp_path, backend):
    """What making an export takes at most, in MB, in a process of its own."""

    async def peak_mb(episodes: int, length: int, cameras: tuple[str, ...] = ()) -> int:
        frames = episodes * length
        session = await record(frames, episodes=list(pairwise(range(0, frames + 1, length))))
        for camera in cameras:
            await film(session, frames, camera, segment=300, same_pictures=True)
        asked = await backend.ask(session)
        order = tmp_path / f"order-{episodes}.json"
        order.write_text(
            await database.value("SELECT work_order::text FROM export WHERE id = $1", asked["id"])
        )
        await backend.http.delete(f"/exports/{asked['id']}")
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / f"out-{episodes}"), database_url]
        done = await asyncio.to_thread(
            subprocess.run, [*words, str(order), str(store)], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    return peak_mb


@pytest.mark.long("long episodes")
async def test_memory_is_bounded_by_an_episode(peak_mb):
    """Eight times the episodes take hardly more memory than one and its successor."""
    few, many = await peak_mb(3, 40_000), await peak_mb(24, 40_000)
    print(few, many)
    assert many < few + 60, f"{few} MB for 3 episodes, {many} MB for 24"


@pytest.mark.long("an hour of video")
async def test_memory_does_not_grow_with_the_video(peak_mb):
    """Eight times the episodes with two cameras: packets pass through, pictures are looked at one by one."""
    cameras = ("front", "wrist")
    few, many = await peak_mb(3, 5_400, cameras), await peak_mb(24, 5_400, cameras)
    print(few, many)
    assert many < few + 60, f"{few} MB for 3 episodes, {many} MB for 24"
    assert many < 512


def test_a_worker_finds_no_pandas():
    """Arrow, which looks for it with every array it is given, goes on without."""
    program = """
import sys
from teleop_export.arrow import do_without_pandas
do_without_pandas()
import pyarrow as pa
assert pa.array([1.5, 2.5]).to_numpy().tolist() == [1.5, 2.5]
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=PATIENCE_S)
