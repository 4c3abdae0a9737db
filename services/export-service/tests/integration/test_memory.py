"""What an export holds in memory at a time."""

import asyncio
import subprocess
import sys
from itertools import pairwise

EPISODE = 40_000
PROGRAM = """
import resource, sys
from pathlib import Path
import msgspec
from export_service.build import build
from export_service.order import Order
from teleop_runtime.frames import FrameReader

root, url = Path(sys.argv[1]), sys.argv[2]
order = msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=Order)
root.mkdir()
with FrameReader(url) as reader:
    build(root, order, reader, None, None, lambda stage, done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


async def test_memory_is_bounded_by_an_episode(record, database, database_url, tmp_path, backend):
    """Eight times the episodes take hardly more memory than one and its successor."""

    async def peak_mb(episodes: int) -> int:
        frames = episodes * EPISODE
        session = await record(frames, episodes=list(pairwise(range(0, frames + 1, EPISODE))))
        asked = await backend.ask(session)
        await backend.ended(asked["id"])
        order = tmp_path / f"order-{episodes}.json"
        order.write_text(
            await database.value("SELECT work_order::text FROM export WHERE id = $1", asked["id"])
        )
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / f"out-{episodes}"), database_url, str(order)]
        done = await asyncio.to_thread(subprocess.run, words, check=True, capture_output=True, text=True)
        return int(done.stdout)

    few, many = await peak_mb(3), await peak_mb(24)
    print(few, many)
    assert many < few + 60, f"{few} MB for 3 episodes, {many} MB for 24"
