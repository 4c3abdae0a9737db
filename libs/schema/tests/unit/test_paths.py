"""Names of datasets, files and cameras: what would leave the folder, or lie twice in it, is refused."""

import pytest
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import (
    check_camera_key,
    check_dataset_name,
    check_file_path,
    local_path,
    stored_path,
)


@pytest.mark.parametrize(
    "path",
    [
        "data/chunk-000/file-000.parquet",
        "videos/observation.images.front/chunk-000/file-000.mp4",
        "meta/'; DROP TABLE--.json",
        "meta/한국어.json",
    ],
)
def test_a_plain_path_stays_as_it_is(path: str) -> None:
    assert check_file_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "../x.json", "a/../../x.json", "/etc/passwd.json", "C:/x.json", "\\\\host\\x.json", "a//b.json", "",
        "a/./b.json", ".hidden.json", "a\0.json", "a\r\n.json", "a\x1b.json", "a/" + "b" * 256 + ".json",
        "e\u0301.json", "CON", "aux.json",
        "trailing./x.json", "trailing.json ", "a\u202etxt.json", "script.sh",
        "run.sh.escaped/x.json.escape", "a%3ab.json.escaped", "%41.escaped", "a%.escaped", "a:b.escaped",
        "..%2Fx.escaped", "%2E%2E/x.escaped", "%2E/x.escaped", "%2E%2E.escaped", ".hidden.escaped",
        "a%00.escaped", "/x.escaped", ".escaped",
        "x.sh.ESCAPED", "\ud800.json", "/".join("a" * 33) + "/x.json", "%2e%2e/%2e%2e/x.exe",
    ],
)  # fmt: skip
def test_other_paths_are_refused_naming_the_field(path: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_file_path(path)
    assert refused.value.field == "path"


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("meta/한국어.json", "meta/한국어.json"),
        ("a%3Ab.json", "a%3Ab.json"),
        ("arm:left.json", "arm%3Aleft.json.escaped"),
        ("arm%3Aleft.json.escaped", "arm%253Aleft.json.escaped.escaped"),
        ("x.json.escaped", "x.json.escaped.escaped"),
        ("run.sh", "run.sh.escaped"),
        ("a b/run.sh", "a b/run.sh.escaped"),
        (" a./b ./c", "%20a%2E/b %2E/c.escaped"),
        ("a/con/b.txt", "a/%63on/b.txt.escaped"),
        ("a\\b\n.json", "a%5Cb%0A.json.escaped"),
        ("e\u0301.json", "e%CC%81.json.escaped"),
        ("한국:어.json", "%ED%95%9C%EA%B5%AD%3A%EC%96%B4.json.escaped"),
        ("\udcff.json", "%FF.json.escaped"),
        (".gitattributes", "%2Egitattributes.escaped"),
        (".notes/.b.json", "%2Enotes/%2Eb.json.escaped"),
        ("...", "%2E.%2E.escaped"),
    ],
)
def test_any_name_has_one_stored_name_and_back(path: str, stored: str) -> None:
    """What the server has no place for is escaped, reversibly, and never takes a real file's name."""
    assert stored_path(path) == stored == check_file_path(stored)
    assert local_path(stored) == path


@pytest.mark.parametrize(
    "path", ["..", "a/./c.json", "../c.json", "x" * 250, "\u0301" * 60 + "x", "a/" * 33 + "b.sh"]
)
def test_names_that_can_not_be_stored(path: str) -> None:
    """What is no file's name, and what is too long once it is escaped."""
    with pytest.raises(BadInput) as refused:
        stored_path(path)
    assert refused.value.field == "path"


@pytest.mark.parametrize("name", ["my-user/my-dataset", "pick", "train/2026-11-23/pick"])
def test_a_dataset_is_named_by_its_folder(name: str) -> None:
    assert check_dataset_name(name) == name


@pytest.mark.parametrize("name", ["sessions/1", "a/versions", "../a", "a/", "a" * 300])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_dataset_name(name)
    assert refused.value.field == "dataset"


@pytest.mark.parametrize("key", ["a/b", "..", "", "front\n"])
def test_a_camera_key_is_a_folder_name(key: str) -> None:
    with pytest.raises(BadInput):
        check_camera_key(key)
