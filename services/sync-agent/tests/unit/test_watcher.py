"""What a changed path means."""

import asyncio
import logging
import os
import resource
from pathlib import Path

from teleop_sync_agent.watching import watcher
from teleop_sync_agent.watching.watcher import dataset_of, may_be_new, watch
from teleop_testing.waiting import until

ROOT = Path("/outputs")
FOLDERS = {ROOT / "picking", ROOT / "me/placing"}


def test_paths_within_datasets():
    """Files belong to their dataset, except those that LeRobot removes itself, and the Hub's notes."""
    assert dataset_of(ROOT / "picking/meta/info.json", ROOT, FOLDERS) == ROOT / "picking"
    assert dataset_of(ROOT / "me/placing/data", ROOT, FOLDERS) == ROOT / "me/placing"
    assert dataset_of(ROOT / "picking/images/front/episode-000000/frame-000001.png", ROOT, FOLDERS) is None
    assert dataset_of(ROOT / "picking/tmpab12cd34/x.mp4", ROOT, FOLDERS) is None
    assert dataset_of(ROOT / "picking/.cache/huggingface/upload/x", ROOT, FOLDERS) is None
    assert dataset_of(ROOT / "picking/.gitattributes", ROOT, FOLDERS) == ROOT / "picking"
    assert dataset_of(ROOT / "other/meta/info.json", ROOT, FOLDERS) is None


def test_paths_of_new_datasets():
    """What lies in no dataset may be a new one; receipts are none."""
    assert may_be_new(ROOT / "other/meta/info.json", ROOT, FOLDERS)
    assert not may_be_new(ROOT / "picking/meta/info.json", ROOT, FOLDERS)
    assert not may_be_new(ROOT / ".uploaded/picking/meta/info.json.json", ROOT, FOLDERS)
    assert not may_be_new(Path("/elsewhere/x"), ROOT, FOLDERS)


async def test_nothing_left_to_watch_with(tmp_path, monkeypatch, caplog):
    """Where the system gives no watcher, that is told once, and tried again until there is one."""
    monkeypatch.setattr(watcher, "RETRY_S", 0.05)
    caplog.set_level(logging.WARNING)
    heard, changed = [], []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # As with inotify's instances, what is used up are descriptors of the kernel: the notifier says the same.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        watching = asyncio.create_task(watch(tmp_path, changed.append, heard.append))
        await until(lambda: len(heard) > 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(heard) == {False}
    assert [record.getMessage() for record in caplog.records if record.name == watcher.log.name] == [
        "this folder can't report changes: it is scanned every minute instead"
    ]

    def heard_again() -> bool:
        (tmp_path / "new").write_bytes(b"")
        return heard[-1]

    await until(heard_again)
    assert tmp_path / "new" in changed
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_name_that_is_not_text_does_not_end_the_watch(tmp_path, monkeypatch):
    """The notifier stumbles over it; others are heard again once it has been started anew."""
    monkeypatch.setattr(watcher, "RETRY_S", 0.05)
    heard, changed = [], []
    watching = asyncio.create_task(watch(tmp_path, changed.append, heard.append))
    unreadable = bytes(tmp_path) + b"/\xff\xfe.json"

    def stumbles() -> bool:
        Path(os.fsdecode(unreadable)).touch()
        assert not watching.done()
        return False in heard

    def is_heard() -> bool:
        (tmp_path / "sound.json").touch()
        return tmp_path / "sound.json" in changed

    await until(stumbles)
    os.unlink(unreadable)
    await until(is_heard)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
