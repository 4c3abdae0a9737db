"""The CLI's own decisions; what it does with a backend is in the integration tests."""

import io
import tarfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from teleop_client.backend_http import Refused
from teleop_client.exporting import cli
from teleop_client.exporting.cli import default_root, parse, request_of
from teleop_client.exporting.exports import ExportError, _put, _unpack
from teleop_client.exporting.summary import summary
from teleop_client.lerobot_home import lerobot_home
from teleop_client.tar_stream import read_archive


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({}, "/home/me/.cache/huggingface/lerobot"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/lerobot"),
        ({"HF_HOME": "/hf"}, "/hf/lerobot"),
        ({"HF_HOME": "/hf", "HF_LEROBOT_HOME": "/data/lerobot"}, "/data/lerobot"),
        ({"HF_LEROBOT_HOME": "~/lerobot"}, "/home/me/lerobot"),
    ],
)
def test_datasets_go_where_lerobot_looks(monkeypatch, environment, home):
    """LeRobot's own rules, without LeRobot."""
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_LEROBOT_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | environment).items():
        monkeypatch.setenv(name, value)
    assert lerobot_home() == Path(home)


def test_sessions_are_merged_in_the_order_given():
    """--session_id is repeatable."""
    arguments = parse(["--session_id", "2", "--session_id", "1", "--repo_id", "u/d", "--no_capture_time"])
    assert request_of(arguments) == {
        "repo_id": "u/d",
        "session_ids": [2, 1],
        "on_gap": "split",
        "include_unfinished": False,
        "include_capture_time": False,
    }


def test_rate_and_cameras_may_be_chosen():
    """No camera after --cameras is none at all."""
    words = ["--session_id", "1", "--repo_id", "u/d", "--fps", "15", "--cameras"]
    request = request_of(parse(words))
    assert (request["fps"], request["cameras"]) == (15, [])
    assert request_of(parse([*words, "front", "wrist"]))["cameras"] == ["front", "wrist"]


def test_sessions_may_be_chosen_by_what_they_are():
    """A day without a zone is a day here."""
    words = [
        "--repo_id",
        "u/d",
        "--robot_id",
        "robot_A",
        "--tag",
        "edge",
        "--session_tag",
        "a",
        "--session_tag",
        "b",
    ]
    request = request_of(parse([*words, "--since", "2026-01-05", "--until", "2026-01-06T10:00:00+09:00"]))
    assert "session_ids" not in request
    assert datetime.fromisoformat(request["filter"].pop("since")) == datetime(2026, 1, 5).astimezone()
    assert datetime.fromisoformat(request["filter"].pop("until")) == datetime(2026, 1, 6, 1, tzinfo=UTC)
    assert request["filter"] == {"robot_id": "robot_A", "tag": "edge", "session_tags": ["a", "b"]}


def test_a_filter_may_be_for_some_sessions_and_episodes_be_chosen_one_by_one():
    """The filter is for the sessions that are named, then."""
    both = request_of(parse(["--repo_id", "u/d", "--session_id", "7", "--outcome", "success"]))
    assert (both["session_ids"], both["filter"]) == ([7], {"outcome": "success"})
    chosen = request_of(parse(["--repo_id", "u/d", "--episode", "7/0", "--episode", "8/2"]))
    assert chosen["episodes"] == [
        {"session_id": 7, "episode_index": 0},
        {"session_id": 8, "episode_index": 2},
    ]
    assert not {"session_ids", "filter"} & chosen.keys()


def test_splits_are_names_with_shares():
    """Episodes are drawn in the same way each time, unless another seed is given."""
    words = ["--session_id", "1", "--repo_id", "u/d", "--streaming_safe", "--split", "train=0.9", "val=.1"]
    request = request_of(parse(words))
    assert (request["split"], request["split_seed"]) == ({"train": 0.9, "val": 0.1}, 0)
    assert request["streaming_safe"]


def test_sessions_as_they_were_recorded_go_into_the_working_directory(monkeypatch, tmp_path):
    """LeRobot would not know what to do with them; a dataset goes where it looks."""
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    words = ["--session_id", "1", "--repo_id", "u/pick"]
    assert "format" not in request_of(parse(words))
    assert default_root(parse(words)) == tmp_path / "u/pick"
    raw = parse([*words, "--format", "mcap"])
    assert request_of(raw)["format"] == "mcap"
    assert default_root(raw) == Path("pick-mcap")


def test_push_is_private_unless_told_otherwise():
    """And there is none unless it is asked for."""
    words = ["--session_id", "1", "--repo_id", "u/d"]
    assert "push_to_hub" not in request_of(parse(words))
    assert request_of(parse([*words, "--push_to_hub"]))["push_to_hub"] == {
        "private": True,
        "overwrite": False,
    }
    asked = request_of(parse([*words, "--push_to_hub", "--public", "--token_name", "lab"]))["push_to_hub"]
    assert (asked["private"], asked["token_name"]) == (False, "lab")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--repo_id"),
        (["--repo_id", "u/d"], "give --session_id"),
        (["--session_id", "1", "--episode", "1/0", "--repo_id", "u/d"], "not both"),
        (["--episode", "1:0", "--repo_id", "u/d"], "SESSION/INDEX"),
        (["--robot_id", "robot_A", "--since", "yesterday", "--repo_id", "u/d"], "'yesterday' is not a time"),
        (["--session_id", "x", "--repo_id", "u/d"], "--session_id"),
        (["--session_id", "1", "--repo_id", "u/d", "--split", "train"], "NAME=SHARE"),
        (["--session_id", "1", "--repo_id", "../d"], "repo_id '../d'"),
        (["--session_id", "1", "--repo_id", "u/d", "--backend_url", "host:8000"], "not the address"),
    ],
)
def test_wrong_usage_is_status_2(words, told, capsys):
    """With the reason, as argparse does it."""
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    assert told in capsys.readouterr().err.splitlines()[0]


def archive_of(path, *members):
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def entry(name, size=1, **attributes):
    member = tarfile.TarInfo(name)
    member.size = size
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


@pytest.mark.parametrize(
    "member",
    [
        entry("../evil"),
        entry("/etc/evil"),
        entry("d/link", 0, type=tarfile.SYMTYPE, linkname="../../../evil"),
        entry("d/device", 0, type=tarfile.CHRTYPE),
    ],
)
def test_archive_cannot_escape_its_folder(tmp_path, member):
    """Whoever answers as the backend writes nothing outside."""
    archive = archive_of(tmp_path / "archive.tar", member)
    with archive.open("rb") as stream, suppress(ExportError, Refused):
        read_archive(stream, partial(_unpack, folder=tmp_path / "a" / "b"))
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "a")}
    assert outside == {archive}


def test_dataset_in_the_way_is_not_overwritten(tmp_path):
    """What is there stays as it is, and the message says what to do."""
    target = tmp_path / "dataset"
    target.mkdir()
    (target / "precious").touch()
    unpacked = tmp_path / "unpacked"
    (unpacked / "d" / "meta").mkdir(parents=True)
    (unpacked / "d" / "meta" / "info.json").touch()
    with pytest.raises(ExportError, match="already exists") as caught:
        _put(unpacked, target, is_dataset=True)
    assert "--root" in caught.value.hint
    assert (target / "precious").exists()


def test_archive_without_a_dataset_is_refused(tmp_path):
    """Nothing is put in place then."""
    (tmp_path / "unpacked" / "d").mkdir(parents=True)
    with pytest.raises(ExportError, match="no dataset"):
        _put(tmp_path / "unpacked", tmp_path / "target", is_dataset=True)
    assert not (tmp_path / "target").exists()


def raw_export(**told):
    """What a backend answers for a raw export of session 3."""
    session = {"session_id": 3, "excluded": [], "gaps": [], **told}
    return {
        "numbers": {"episodes": 1, "frames": 1},
        "report": {"sessions": [session], "cameras": []},
    }


def test_a_raw_export_says_what_to_read_and_what_is_not_in_it():
    """The file by its name, pictures that its format has not, and frames that nobody has."""
    arguments = parse(["--session_id", "3", "--repo_id", "u/d", "--format", "parquet"])
    made = raw_export(refused=1, pictures_left_out=["front", "wrist"])
    assert list(summary(made, Path("d-parquet"), arguments)) == [
        "1 episode, 1 frame in d-parquet",
        "not in the export of session 3: 1 frame that the server refused (GET /sessions/3/ledger has why)",
        "not in the export of session 3: pictures of camera front, wrist (GET /sessions/3/videos has them)",
        "",
        "read d-parquet/session-3/frames.parquet with pandas.read_parquet; d-parquet/README.md describes the "
        "files and columns",
    ]


def test_an_older_backend_tells_less():
    """Its reports have none of the later fields."""
    arguments = parse(["--session_id", "3", "--repo_id", "u/d", "--format", "mcap"])
    assert list(summary(raw_export(), Path("d-mcap"), arguments))[1:] == [
        "",
        "open d-mcap/session-3.mcap in Foxglove, or with mcap.reader.make_reader of the mcap library",
    ]


def test_a_full_disk_is_told_without_its_number(monkeypatch, capsys):
    """As people say it, with what to do."""

    async def export(*_):
        raise OSError(28, "No space left on device", "/data/set/info.json")

    monkeypatch.setattr(cli, "export", export)
    monkeypatch.setattr("sys.argv", ["export-to-dataset", "--session_id", "1", "--repo_id", "u/d"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: /data/set/info.json: No space left on device\nhint: ")
