"""The agent's memory."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from teleop_sync_agent.errors import AgentError, Failed, Taken
from teleop_sync_agent.keeping import state as state_module
from teleop_sync_agent.keeping.state import AgentState, BackedUpFile, DatasetRow
from teleop_testing.waiting import PATIENCE_S

ROW = BackedUpFile("meta/info.json", 10, 5, 6, 7, 3 * 10**9, "ab" * 32, b"\x01\x00", "2026-01-01")


def test_files_are_remembered(tmp_path):
    """What was stored is there for the next process, and doubted when the server says so."""
    with closing(AgentState(tmp_path / "robot_A.sqlite")) as state:
        state.note_stored("/outputs/a", ROW)
    with closing(AgentState(tmp_path / "robot_A.sqlite")) as state:
        assert state.files("/outputs/a") == {ROW.path: ROW}
        state.doubt("/outputs/a")
        assert not state.files("/outputs/a")[ROW.path].known_to_server


def test_another_server_has_nothing(tmp_path):
    """What one server has says nothing of another one, and is not called stored there."""
    with closing(AgentState(tmp_path / "robot_A.sqlite")) as state:
        state.use_server("http://one:8000")
        state.note_stored("/outputs/a", ROW)
        here = str(tmp_path)
        state.note_dataset(
            DatasetRow(folder=here, root="/", name="here", state="stored", version=3, saved_episodes=2)
        )
        state.note_dataset(
            DatasetRow(folder="/outputs/a", root="/outputs", name="a", state="reclaimed", manifest_sha256="y")
        )
        state.use_server("http://one:8000")
        assert state.files("/outputs/a")[ROW.path].known_to_server
        assert state.dataset(here).state == "stored"
        state.use_server("http://two:8000")
        assert not state.files("/outputs/a")[ROW.path].known_to_server
        row = state.dataset(here)
        assert (row.state, row.reason) == ("waiting", "http://two:8000 has not been asked for it yet")
        assert (row.version, row.saved_episodes) == (None, 0)
        # What can't be sent any more is asked for.
        row = state.dataset("/outputs/a")
        assert (row.state, row.manifest_sha256) == ("reclaimed", "y")


@pytest.mark.parametrize("damage", [b"no database at all, but long enough to be read" * 100, b"short"])
def test_a_damaged_file_is_put_aside(tmp_path, damage):
    """A damaged memory is kept for a look, and the agent starts with an empty one."""
    path = tmp_path / "robot_A.sqlite"
    path.write_bytes(damage)
    with closing(AgentState(path, hold=True)) as state:
        assert state.datasets() == []
    assert path.with_name("robot_A.sqlite.put-aside").read_bytes() == damage


def test_a_newer_version_is_put_aside(tmp_path):
    """A memory of another version is not guessed at."""
    path = tmp_path / "robot_A.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with closing(AgentState(path, hold=True)) as state:
        assert state.datasets() == []
    assert path.with_name("robot_A.sqlite.put-aside").exists()


def damage_pages(path: Path) -> None:
    """Beyond what opening it reads."""
    content = bytearray(path.read_bytes())
    for page in range(5, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 2048] = b"\xa5" * 2048
    path.write_bytes(content)


def damage_row(path: Path) -> None:
    """Every page is sound, but what one holds is not."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO dataset VALUES ('/outputs/b', '{\"folder\": 7}')")


@pytest.mark.parametrize("damage", [damage_pages, damage_row])
def test_damage_within_the_file(tmp_path, damage):
    """The next agent puts it aside; who only looks says so, and leaves it where it is."""
    path = tmp_path / "robot_A.sqlite"
    with closing(AgentState(path, hold=True)) as state:
        for number in range(40):
            state.note_stored(f"/outputs/{number}", msgspec.structs.replace(ROW, anchored=b"x" * 2000))
        state.note_dataset(DatasetRow(folder="/outputs/a", root="/outputs", name="a"))
    damage(path)
    with closing(AgentState(path)) as state, pytest.raises(Failed, match="an agent moves it aside") as told:
        _ = state.datasets(), [state.files(f"/outputs/{number}") for number in range(40)]
    assert told.value.exit_code == 1
    with closing(AgentState(path, hold=True)) as state:
        assert state.datasets() == []
    assert path.with_name("robot_A.sqlite.put-aside").exists()


def test_a_lock_is_waited_for(tmp_path, monkeypatch):
    """A backup tool that has the file locked costs time; one that never lets go ends this run only."""
    path = tmp_path / "robot_A.sqlite"
    with closing(AgentState(path, hold=True)) as state, closing(locker(path)) as other:
        writing = threading.Thread(target=state.note_stored, args=("/outputs/a", ROW))
        writing.start()
        # Meanwhile others may read.
        assert state.files("/outputs/a") == {}
        other.execute("ROLLBACK")
        writing.join()
        assert state.files("/outputs/a") == {ROW.path: ROW}
        monkeypatch.setattr(state_module, "BUSY_PATIENCE_S", 0.0)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failed, match="locked") as told:
            state.doubt("/outputs/a")
    assert told.value.exit_code == 1


def locker(path: Path) -> sqlite3.Connection:
    """Somebody who has it locked."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_question_is_answered_before_the_memory_is_closed(tmp_path):
    """Whoever asked in a thread may be cancelled; the thread goes on."""
    state = AgentState(tmp_path / "robot_A.sqlite")
    asked, go, answers = threading.Event(), threading.Event(), []

    def wait_in_the_database():
        asked.set()
        return go.wait(PATIENCE_S)

    state._connection.create_function("wait_in_the_database", 0, wait_in_the_database)
    asking = threading.Thread(target=lambda: answers.extend(state._ask("SELECT wait_in_the_database()")))
    ending = threading.Thread(target=state.close)
    asking.start()
    assert asked.wait(PATIENCE_S)
    ending.start()
    ending.join(0.2)
    assert ending.is_alive()
    go.set()
    for thread in (asking, ending):
        thread.join(PATIENCE_S)
    assert answers == [(1,)]


def test_one_agent_at_a_time(tmp_path):
    """A second one with the same robot is told what to do; who only looks is let in."""
    path = tmp_path / "robot_A.sqlite"
    with closing(AgentState(path, hold=True)), closing(AgentState(path)) as looking:
        assert looking.datasets() == []
        with pytest.raises(
            Taken, match=r"another sync-agent is already running for robot_A.*--state-dir"
        ) as told:
            AgentState(path, hold=True)
        assert told.value.exit_code == 3
    AgentState(path, hold=True).close()


def test_a_folder_that_can_not_be_made(tmp_path):
    """The message says which folder, and what it is for."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match=r"/file, where the agent keeps its memory"):
        AgentState(tmp_path / "file" / "robot_A.sqlite", hold=True)


def test_racy_times_are_not_trusted():
    """A file that was read within the tick of its own change may have changed once more."""
    assert ROW.is_still(10, 5, 6, 7)
    assert not ROW.is_still(11, 5, 6, 7)
    assert not ROW.is_still(10, 6, 6, 7)
    assert not ROW.is_still(10, 5, 7, 7)
    assert not ROW.is_still(10, 5, 6, 8)
    fresh = BackedUpFile("x", 10, 5, 6, 7, 8, "ab" * 32, b"", "")
    assert not fresh.is_still(10, 5, 6, 7)
