"""Backed-up datasets become sessions: once, growing with their dataset, whatever is killed meanwhile."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_client.importing.cli import main as import_dataset
from teleop_testing.backends.processes import whole_backend
from teleop_testing.datasets.importable import NAMES, values_of, write_dataset
from teleop_testing.robots.lines import connect_in_thread
from teleop_testing.waiting import PATIENCE_S, wait_for

ENDED = ("done", "failed")


@pytest.fixture(scope="module")
def backend():
    """The whole backend as one process, for all tests here."""
    with tempfile.TemporaryDirectory(prefix="backend-") as folder, whole_backend(folder) as process:
        yield process


@pytest.fixture(scope="module")
def http(backend):
    with httpx.Client(base_url=backend.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def typed(backend, monkeypatch, capsys):
    """Runs `import-dataset` as a user types it; gives what it printed."""

    def typed(*words, status=0):
        monkeypatch.setattr("sys.argv", ["import-dataset", *map(str, words), "--backend_url", backend.url])
        if status:
            with pytest.raises(SystemExit) as ended:
                import_dataset()
            assert ended.value.code == status
        else:
            import_dataset()
        return "".join(capsys.readouterr())

    return typed


def about(http, name, version=None):
    """How far the import of a version is."""
    wanted = {} if version is None else {"version": version}
    return http.get(f"/datasets/imported/{name}/import", params=wanted).json()


def ended(http, name, version=None):
    def over():
        told = about(http, name, version)
        return told if told["status"] in ENDED else None

    return wait_for(over)


def sessions_of(http, robot):
    return http.get("/sessions", params={"robot_id": robot}).json()["sessions"]


def frames_of(http, session):
    told = http.get(f"/sessions/{session}/frames").json()["frames"]
    return [list(each["observation"].values()) for each in told]


def test_a_version_is_imported_once(http, typed, tmp_path):
    """Asked again, it answers with the session that it has become, and makes no other."""
    folder = write_dataset(tmp_path / "once")
    assert "2 episodes, 8 frames, from version 1 of once" in typed(folder)
    first = about(http, "once")
    assert (first["status"], first["frames"], first["stored_frames"]) == ("done", 8, 8)
    again = http.post("/datasets/imported/once/import")
    assert (again.status_code, again.json()["session_ids"]) == (200, [first["session_id"]])
    assert "from version 1 of once" in typed(folder)
    assert frames_of(http, first["session_id"]) == pytest.approx(
        [pytest.approx(each) for each in values_of("state", 8, [2], "float32", 0).tolist()]
    )


def test_a_later_version_goes_on(http, typed, tmp_path):
    """What people judged of the first episodes stays; frames, episodes and video are those of the longer
    dataset."""
    typed(write_dataset(tmp_path / "a" / "grows", [5, 3], cameras=["front"]), "--name", "grows")
    session = about(http, "grows")["session_id"]
    http.patch(f"/sessions/{session}/episodes/1", json={"outcome": "failure"}).raise_for_status()
    typed(write_dataset(tmp_path / "b" / "grows", [5, 3, 7], cameras=["front"]), "--name", "grows")
    told = about(http, "grows")
    assert (told["version"], told["session_ids"]) == (2, [session])
    found = http.get(f"/sessions/{session}").json()
    assert found["imported_from"] == {"dataset": "grows", "version": 2, "clock": "unknown"}
    assert (found["status"], found["frames"], found["episodes"]) == ("complete", 15, 3)
    assert [each["outcome"] for each in found["episode_list"]] == [None, "failure", None]
    (chunk,) = http.get(f"/sessions/{session}/videos").json()["videos"]
    assert (chunk["frame_count"], chunk["quarantine"]) == (15, None)
    ledger = http.get(f"/sessions/{session}/ledger").json()
    assert (ledger["committed"], ledger["complete"]) == (15, True)


def test_another_dataset_of_that_name_is_not_taken_in_silence(http, typed, tmp_path):
    """Its values differ: it would double what is there, so it says which session, and waits to be told."""
    typed(write_dataset(tmp_path / "a", [4]), "--name", "differs")
    session = about(http, "differs")["session_id"]
    other = write_dataset(tmp_path / "b", [4], seed=1)
    told = typed(other, "--name", "differs", status=1)
    assert f"({session})" in told
    assert "--again" in told
    assert about(http, "differs")["problem"]["code"] == "already_imported"
    typed(other, "--name", "differs", "--again")
    assert len(about(http, "differs")["session_ids"]) == 2


def test_times_that_the_dataset_tells(http, typed, tmp_path):
    """As this backend's own exports do: they are the frames', to the microsecond."""
    taken = [1_700_000_000_000_000 + 33_000 * number for number in range(8)]
    typed(write_dataset(tmp_path / "timed", capture_us=taken))
    session = http.get(f"/sessions/{about(http, 'timed')['session_id']}").json()
    assert session["imported_from"]["clock"] == "recorded"
    assert session["start_time"] == "2023-11-14T22:13:20Z"
    frames = http.get(f"/sessions/{session['id']}/frames").json()["frames"]
    assert frames[1]["timestamp"] == "2023-11-14T22:13:20.033000Z"


def test_what_was_recorded_live_is_not_doubled_in_silence(http, typed, backend, tmp_path):
    """The robot has sent the same frames: the import names the session, and waits to be told."""
    folder = write_dataset(tmp_path / "live", [6, 4])
    columns = {name: values_of(name, 10, [2], "float32", 0).tolist() for name in ("state", "action")}
    with connect_in_thread(f"ws://{backend.address}/ws/log/robot_L") as robot:
        for state, action in zip(columns["state"], columns["action"], strict=True):
            told = {"observation": state, "action": action}
            frame = {part: dict(zip(NAMES, values, strict=True)) for part, values in told.items()}
            robot.send(json.dumps(frame))
        wait_for(lambda: [each["frames"] for each in sessions_of(http, "robot_L")] == [10])
    (live,) = sessions_of(http, "robot_L")
    told = typed(folder, "--robot_id", "robot_L", status=1)
    assert f"1 session ({live['id']})" in told
    assert "--again" in told
    typed(folder, "--robot_id", "robot_L", "--again")
    typed(write_dataset(tmp_path / "new", [6, 4], seed=2), "--robot_id", "robot_L")
    assert len(sessions_of(http, "robot_L")) == 3


def torn_rows(folder: Path) -> None:
    (path,) = folder.glob("data/*/*.parquet")
    pq.write_table(pq.read_table(path).slice(0, 6), path)


def wrong_episode(folder: Path) -> None:
    (path,) = folder.glob("data/*/*.parquet")
    table = pq.read_table(path)
    place = table.column_names.index("episode_index")
    pq.write_table(table.set_column(place, "episode_index", pa.array([1] * len(table))), path)


def pictures_in_tables(folder: Path) -> None:
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["next.reward"]["dtype"] = "image"
    path.write_text(json.dumps(info))


def no_video(folder: Path) -> None:
    (path,) = folder.glob("videos/*/*/*.mp4")
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (torn_rows, "have 6 rows"),
        (wrong_episode, "episode_index does not count"),
        (pictures_in_tables, "are in the tables, not in videos"),
        (no_video, "is missing"),
    ],
)
def test_what_can_not_be_imported_says_why(http, typed, tmp_path, damage, why):
    """Before there is a session; asked again, it is tried again."""
    name = damage.__name__
    folder = write_dataset(tmp_path / name, cameras=["front"])
    damage(folder)
    sessions = len(http.get("/sessions").json()["sessions"])
    assert why in typed(folder, status=1)
    assert why in typed(folder, status=1)
    assert about(http, name)["problem"]["code"] == "not_importable"
    assert len(http.get("/sessions").json()["sessions"]) == sessions


def test_nothing_to_import(http):
    assert http.get("/datasets/imported/nothing/import").json()["code"] == "dataset_not_found"
    assert http.post("/datasets/imported/nothing/import").json()["code"] == "dataset_not_found"


def test_erased_with_all_that_belongs_to_it(http, typed, tmp_path):
    """The dataset stays, and can be imported again."""
    folder = write_dataset(tmp_path / "erased", cameras=["front"])
    typed(folder)
    session = about(http, "erased")["session_id"]
    asked = http.post("/erasures", json={"session_id": session}).json()
    wait_for(lambda: http.get(f"/erasures/{asked['id']}").json()["status"] == "erased")
    assert http.get("/datasets/imported/erased/import").json()["code"] == "import_not_found"
    assert http.get("/datasets/imported/erased").json()["status"] == "finalised"
    typed(folder)
    assert about(http, "erased")["session_id"] != session


def test_killed_in_the_middle(tmp_path):
    """kill -9 while it is read or stored: it goes on, and nothing is there twice."""
    folder = write_dataset(tmp_path / "killed", [150_000, 90_000], added={})
    with (
        tempfile.TemporaryDirectory(prefix="backend-") as data,
        whole_backend(data) as backend,
        httpx.Client(base_url=backend.url, timeout=PATIENCE_S) as http,
    ):
        command = [sys.executable, "-m", "teleop_client.importing.cli", str(folder)]
        with subprocess.Popen([*command, "--backend_url", backend.url]) as typed:
            for status in ("reading", "storing"):
                wait_for(lambda wanted=status: about(http, "killed").get("status") in (wanted, *ENDED))
                backend.kill()
                backend.start()
            assert typed.wait(PATIENCE_S) == 0
        told = ended(http, "killed")
        assert (told["status"], told["stored_frames"]) == ("done", 240_000)
        ledger = http.get(f"/sessions/{told['session_id']}/ledger").json()
        assert (ledger["committed"], ledger["duplicates"], ledger["complete"]) == (240_000, 0, True)
        assert len(http.get("/sessions").json()["sessions"]) == 1
