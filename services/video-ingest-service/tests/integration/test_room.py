"""What /metrics tells of the store."""

from teleop_runtime.store import open_store
from teleop_video_ingest.metrics import FREE_BYTES
from teleop_video_ingest.upkeep import room


async def test_room_is_told(tmp_path):
    """The gauge has what the store says is left, its reserve taken off."""
    store = open_store(tmp_path)
    await room.look(store)
    told = FREE_BYTES.labels("files")._value.get()
    assert told > 0
    assert abs(told - await store.free_bytes()) < 10**9
