"""The agent's memory."""

import sqlite3
from contextlib import closing

import pytest
from sync_agent.errors import AgentError
from sync_agent.state import DatasetRow, FileRow, State

ROW = FileRow("meta/info.json", 10, 5, 6, 7, 3 * 10**9, "ab" * 32, b"\x01\x00", "2026-01-01")


def test_files_are_remembered(tmp_path):
    """What was stored is there for the next process, and doubted when the server says so."""
    with closing(State(tmp_path / "robot_A.sqlite")) as state:
        state.note_stored("/outputs/a", ROW)
    with closing(State(tmp_path / "robot_A.sqlite")) as state:
        assert state.files("/outputs/a") == {ROW.path: ROW}
        state.doubt("/outputs/a")
        assert not state.files("/outputs/a")[ROW.path].known_to_server


def test_another_server_has_nothing(tmp_path):
    """What one server has says nothing of another one."""
    with closing(State(tmp_path / "robot_A.sqlite")) as state:
        state.use_server("http://one:8000")
        state.note_stored("/outputs/a", ROW)
        state.note_dataset(DatasetRow(folder="/outputs/a", root="/outputs", name="a", fingerprint="x"))
        state.use_server("http://one:8000")
        assert state.files("/outputs/a")[ROW.path].known_to_server
        state.use_server("http://two:8000")
        assert not state.files("/outputs/a")[ROW.path].known_to_server
        assert state.dataset("/outputs/a").fingerprint == ""


@pytest.mark.parametrize("damage", [b"no database at all, but long enough to be read" * 100, b"short"])
def test_a_damaged_file_is_put_aside(tmp_path, damage):
    """A damaged memory is kept for a look, and the agent starts with an empty one."""
    path = tmp_path / "robot_A.sqlite"
    path.write_bytes(damage)
    with closing(State(path)) as state:
        assert list(state.datasets()) == []
    assert path.with_name("robot_A.sqlite.put-aside").read_bytes() == damage


def test_a_newer_version_is_put_aside(tmp_path):
    """A memory of another version is not guessed at."""
    path = tmp_path / "robot_A.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with closing(State(path)) as state:
        assert list(state.datasets()) == []
    assert path.with_name("robot_A.sqlite.put-aside").exists()


def test_a_folder_that_can_not_be_made(tmp_path):
    """The message says which folder, and what it is for."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match=r"/file, where the agent keeps its memory"):
        State(tmp_path / "file" / "robot_A.sqlite")


def test_racy_times_are_not_trusted():
    """A file that was read within the tick of its own change may have changed once more."""
    assert ROW.is_still(10, 5, 6, 7)
    assert not ROW.is_still(11, 5, 6, 7)
    assert not ROW.is_still(10, 6, 6, 7)
    assert not ROW.is_still(10, 5, 7, 7)
    assert not ROW.is_still(10, 5, 6, 8)
    fresh = FileRow("x", 10, 5, 6, 7, 8, "ab" * 32, b"", "")
    assert not fresh.is_still(10, 5, 6, 7)
