"""Whether a stored dataset's folder is as it was: what is no part of it says nothing about that."""

import pytest
from teleop_sync_agent.watching.folders import fingerprint
from teleop_testing.datasets.dataset_folders import make_dataset


@pytest.mark.parametrize(
    "path", [".gitattributes", "meta/.notes/a.json", ".cache/a.json", "meta/images/b.png", "tmpab12_34x"]
)
def test_another_file_of_the_dataset(tmp_path, path):
    """Hidden files, and names that only look like LeRobot's own."""
    folder = make_dataset(tmp_path / "picking")
    before = fingerprint(folder)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).touch()
    assert fingerprint(folder) != before


def test_what_lerobot_and_the_hub_keep_for_a_while(tmp_path):
    """It comes and goes, and the dataset is the same."""
    folder = make_dataset(tmp_path / "picking")
    (folder / ".cache").mkdir()
    before = fingerprint(folder)
    for path in ("images/front", "tmpab12_34x", ".cache/huggingface/upload", ".uploaded"):
        (folder / path).mkdir(parents=True)
        (folder / path / "x.png").touch()
    assert fingerprint(folder) == before
