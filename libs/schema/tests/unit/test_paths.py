"""Names of datasets, files and cameras: what would leave the folder, or lie twice in it, is refused."""

import pytest
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_camera_key, check_dataset_name, check_file_path


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
        "\ud800.json", "/".join("a" * 33) + "/x.json", "%2e%2e/%2e%2e/x.exe",
    ],
)  # fmt: skip
def test_other_paths_are_refused_naming_the_field(path: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_file_path(path)
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
