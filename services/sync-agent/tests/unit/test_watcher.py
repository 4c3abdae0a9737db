"""What a changed path means."""

from pathlib import Path

from sync_agent.watcher import dataset_of, may_be_new

ROOT = Path("/outputs")
FOLDERS = {ROOT / "picking", ROOT / "me/placing"}


def test_paths_within_datasets():
    """Files belong to their dataset, except those that LeRobot removes itself."""
    assert dataset_of(ROOT / "picking/meta/info.json", ROOT, FOLDERS) == ROOT / "picking"
    assert dataset_of(ROOT / "me/placing/data", ROOT, FOLDERS) == ROOT / "me/placing"
    assert dataset_of(ROOT / "picking/images/front/episode-000000/frame-000001.png", ROOT, FOLDERS) is None
    assert dataset_of(ROOT / "picking/tmpab12cd34/x.mp4", ROOT, FOLDERS) is None
    assert dataset_of(ROOT / "other/meta/info.json", ROOT, FOLDERS) is None


def test_paths_of_new_datasets():
    """What lies in no dataset may be a new one; receipts are none."""
    assert may_be_new(ROOT / "other/meta/info.json", ROOT, FOLDERS)
    assert not may_be_new(ROOT / "picking/meta/info.json", ROOT, FOLDERS)
    assert not may_be_new(ROOT / ".uploaded/picking/meta/info.json.json", ROOT, FOLDERS)
    assert not may_be_new(Path("/elsewhere/x"), ROOT, FOLDERS)
