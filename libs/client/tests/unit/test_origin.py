"""What a dataset says of where it comes from."""

import json

import pytest
from teleop_client.exporting.exports import ExportError
from teleop_client.exporting.origin import folder_of, read_lineage, told

EXPORT = {"id": 12, "status": "done", "request": {"repo_id": "lab/pick"}}


@pytest.fixture
def dataset(tmp_path):
    """The folder of a dataset, with what is in its meta/backend.json."""

    def dataset(content):
        folder = tmp_path / "lab" / "pick"
        (folder / "meta").mkdir(parents=True, exist_ok=True)
        (folder / "meta/info.json").write_text("{}")
        if content is not None:
            (folder / "meta/backend.json").write_text(content)
        return folder

    return dataset


def lines(folder, *exports):
    return list(told(read_lineage(folder), exports, "http://localhost:8000"))


def test_export_and_sessions_are_told(dataset):
    """Of a session that was recorded without episodes, that it is all of it."""
    episodes = [(3, 0), (3, 4), (3, 4), (5, None)]
    content = {
        "fingerprint": "5" * 64,
        "report": {},
        "episodes": [{"session_id": session, "recorded_episode": index} for session, index in episodes],
    }
    assert lines(dataset(json.dumps(content)), EXPORT) == [
        f"fingerprint {'5' * 64}",
        "export 12 of http://localhost:8000: lab/pick, done",
        "session 3: 2 episodes (0, 4)",
        "session 5: the whole session",
    ]
    assert "has no such export" in lines(dataset(json.dumps(content)))[1]


def test_a_dataset_of_an_older_backend_still_names_its_sessions(dataset):
    told_of = lines(dataset('{"episodes": [{"session_id": 3, "recorded_episode": 0}]}'))
    assert "older backend" in told_of[0]
    assert told_of[1] == "session 3: 1 episode (0)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not an export"),
        ("{", "is damaged"),
        ('{"episodes": 3}', "is damaged"),
        ("[" * 10**5, "damaged"),
    ],
)
def test_what_is_not_known_is_told(dataset, content, words):
    with pytest.raises(ExportError, match=words):
        read_lineage(dataset(content))


def test_a_folder_that_is_no_dataset_is_named(tmp_path):
    with pytest.raises(ExportError, match="is not the folder of a dataset"):
        read_lineage(tmp_path)


def test_names_are_looked_up_where_lerobot_keeps_datasets(dataset, tmp_path, monkeypatch):
    """A folder of that name is meant first."""
    folder = dataset("{}")
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    assert folder_of("lab/pick") == folder
    assert folder_of(str(folder)) == folder
