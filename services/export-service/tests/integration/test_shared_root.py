"""Where datasets are built and kept: several databases may use one root."""

import pytest
from teleop_export.work.folders import Folders
from teleop_runtime.serving.app import CannotStart


def published(folders, content):
    """The folder of export 1, with one file in it."""
    building = folders.begin(1, 1)
    (building / "file").write_text(content)
    folders.publish(building, folders.published(1, "f" * 64), 1)
    return folders.published(1, "f" * 64)


def test_another_databases_datasets_are_not_taken_for_ones_own(tmp_path):
    """Though they have the same number, and were asked for alike."""
    one, other = (published(Folders(tmp_path, name), name) for name in ("aaaaaaaa", "bbbbbbbb"))
    assert (one / "file").read_text() == "aaaaaaaa"
    assert (other / "file").read_text() == "bbbbbbbb"


def test_what_another_database_builds_is_left_alone(tmp_path):
    """One's own leftovers are removed, and what anybody has thrown away."""
    one, other = Folders(tmp_path, "aaaaaaaa"), Folders(tmp_path, "bbbbbbbb")
    working, dead, foreign = one.begin(1, 1), one.begin(2, 1), other.begin(2, 1)
    thrown_away = tmp_path / ".building/discarded-0"
    thrown_away.mkdir()
    one.sweep(one.leftovers(), [(1, 1)])
    assert [folder.exists() for folder in (working, dead, foreign, thrown_away)] == [True, False, True, False]


async def test_an_export_bears_its_databases_name(backend, record, database):
    """The first characters of the one that it was given when it was made."""
    _, folder = await backend.export(await record(10))
    name = str(await database.value("SELECT id FROM installation"))
    assert folder.name.endswith(f"-{name[:8]}")


def test_a_root_that_cannot_be_used_is_told(tmp_path):
    """With the setting that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"file/exports: Not a directory; .*EXPORT_ROOT"):
        Folders(tmp_path / "file" / "exports", "aaaaaaaa")
