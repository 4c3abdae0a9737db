"""What a power cut leaves of a local store, whenever it comes: see `teleop_testing.machine.power`."""

from pathlib import Path

from teleop_runtime.store.local import LocalStore
from teleop_testing.datasets.files import sha256_of
from teleop_testing.datasets.storing import begun, content_of, parts_of, stored
from teleop_testing.machine.power import watched_disk

CONTENT = b"c" * 300_000


async def test_what_was_told_is_there_whenever_the_power_is_cut(tmp_path):
    """Offsets, objects and names that a caller was told of are there; an object is whole or not there."""
    root = tmp_path / "store"
    root.mkdir()
    told: dict[str, bytes] = {}
    cuts = 0

    def look(call: str) -> None:
        nonlocal cuts
        cuts += 1
        for world, left in disk.cut(tmp_path / "cuts" / str(cuts)):
            where = f"{call}, {world}"
            for path, content in told.items():
                assert (left / path).read_bytes()[: len(content)] == content, where
            for found in left.glob(".objects/*/*/*"):
                assert sha256_of(found.read_bytes()) == found.name, where

    with watched_disk(root) as disk:
        disk.after_each = look
        store = LocalStore.open(root)
        upload_id = await begun(store, CONTENT[:1000])
        told[f".incoming/{upload_id}"] = CONTENT[:1000]
        rest = parts_of(CONTENT[1000:])
        await store.append(upload_id, 1000, rest, limit=len(CONTENT))
        told[f".incoming/{upload_id}"] = CONTENT
        look("appended")
        await store.finish(upload_id, sha256=sha256_of(CONTENT), size_bytes=len(CONTENT))
        told[f".objects/{sha256_of(CONTENT)[:2]}/{sha256_of(CONTENT)[2:4]}/{sha256_of(CONTENT)}"] = CONTENT
        del told[f".incoming/{upload_id}"]
        look("finished")
        await store.discard(upload_id)
        for path in ("robot_A/videos/a.mp4", "robot_A/b.mp4"):
            await store.name(path, sha256_of(CONTENT))
            told[path] = CONTENT
            look("named")
        other = await stored(store, b"other")
        del told["robot_A/b.mp4"]
        await store.name("robot_A/b.mp4", other)
        told["robot_A/b.mp4"] = b"other"
        look("named anew")
        assert await content_of(store, other) == b"other"
    assert cuts > 20


async def test_model_would_notice_a_missing_sync(tmp_path, monkeypatch):
    """Without the sync of folders a cut takes what was told: or the test above proves nothing."""
    root = tmp_path / "store"
    root.mkdir()
    monkeypatch.setattr("teleop_runtime.store.durable.sync_directory", lambda _: None)
    with watched_disk(root) as disk:
        sha256 = await stored(LocalStore.open(root), CONTENT)
        left: dict[str, list[Path]] = {
            world: list(folder.glob(f".objects/*/*/{sha256}")) for world, folder in disk.cut(tmp_path / "cut")
        }
    assert not left["nothing unsynced"]
    assert left["unsynced names"]
