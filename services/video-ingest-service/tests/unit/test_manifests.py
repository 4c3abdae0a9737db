"""Manifests: what is asked of them, and what makes two of them the same."""

import msgspec
import pytest
from teleop_schema.errors import BadInput
from teleop_schema.files import digest_of
from teleop_testing.datasets.files import manifest_of
from teleop_video_ingest.model.manifests import check_manifest

FILES = {"meta/info.json": b"1", "data/file.parquet": b"2"}
OTHER = manifest_of({"a.json": b""})


def test_the_order_of_files_says_nothing():
    """The same state is the same version."""
    forth = manifest_of(FILES)
    back = manifest_of(dict(reversed(FILES.items())))
    assert digest_of(forth) == digest_of(back)


@pytest.mark.parametrize(
    "change",
    [
        {"finalised": True},
        {"total_episodes": 2},
        {"total_frames": 11},
        {"files": OTHER.files},
    ],
)
def test_whatever_differs_makes_another_version(change):
    """Its files, its counts, whether it is closed."""
    assert digest_of(msgspec.structs.replace(manifest_of(FILES), **change)) != digest_of(manifest_of(FILES))


def test_the_file_that_is_wrong_is_named_by_its_place():
    """In a list of a hundred thousand."""
    files = manifest_of(FILES).files
    for wrong in (msgspec.structs.replace(files[0], path="../x.json"), files[0]):
        with pytest.raises(BadInput) as caught:
            check_manifest(msgspec.structs.replace(manifest_of(FILES), files=(*files, wrong)))
        assert caught.value.field == "files[2].path"


@pytest.mark.parametrize(
    ("paths", "wrong"),
    [
        # What S3 would hold, and no disk.
        (("a.json", "a.json/b.json"), 1),
        (("a.json/c/b.json", "x.json", "a.json"), 0),
        # By the names that they have on the robot.
        (("a%3A.escaped", "a%3A/b%3A.escaped"), 1),
        (("a.json", "a.json.escaped"), 1),
    ],
)
def test_what_no_folder_can_hold_is_named(paths, wrong):
    """A file and a folder of one name, or two files of it: the version could never be restored."""
    with pytest.raises(BadInput) as caught:
        check_manifest(manifest_of(dict.fromkeys(paths, b"")))
    assert caught.value.field == f"files[{wrong}].path"


def test_names_that_only_begin_alike_are_fine():
    """A file beside a folder whose name goes on."""
    check_manifest(manifest_of(dict.fromkeys(("a.json", "a.json-1/b.json", "a/b.json", "a/c/b.json"), b"")))
