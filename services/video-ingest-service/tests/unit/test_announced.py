"""What clients tell of a file in named texts."""

import json
from uuid import UUID, uuid4

import pytest
from teleop_schema.errors import BadInput
from teleop_schema.files import DatasetFile, VideoFile
from teleop_video_ingest.model.announced import complete, from_fields, from_metadata

SHA256 = "ab" * 32
VIDEO = {
    "robot_id": "robot_A",
    "session": "3",
    "camera_key": "front",
    "chunk_index": "7",
    "start_timestamp": "2026-11-23T05:53:00.5Z",
    "end_timestamp": "1795413190.25",
}
DATASET = {"robot_id": "robot_A", "dataset": "me/ds", "path": "meta/info.json"}


def test_video():
    """A video chunk is told in texts, times as people write them."""
    told = {
        **VIDEO,
        "fps": "29.97",
        "height": "480",
        "width": "640",
        "frames": json.dumps({"frame_index": [4, 5], "captured_us": [10, 20]}),
        "dropped": json.dumps([{"first": 6, "end": 9, "reason": "encoder late"}]),
    }
    file = complete(from_fields("video", told), size_bytes=10, sha256=SHA256)
    assert isinstance(file, VideoFile)
    assert (file.session, file.chunk_index, file.fps, file.height) == (3, 7, 29.97, 480)
    assert (file.start_us, file.end_us) == (1795413180500000, 1795413190250000)
    assert file.frames is not None
    assert file.frames.frame_index == (4, 5)
    assert file.dropped[0].reason == "encoder late"


def test_session_by_stream():
    """A session may be told by the uuid of its stream."""
    stream = uuid4()
    file = complete(from_fields("video", {**VIDEO, "session": str(stream)}), size_bytes=1, sha256=SHA256)
    assert file.session == stream
    assert isinstance(file.session, UUID)


def test_zones():
    """The same moment in another zone is the same time."""
    one = from_fields("video", {**VIDEO, "start_timestamp": "2026-11-23T14:53:00.5+09:00"})
    assert one["start_us"] == 1795413180500000


def test_dataset():
    """A dataset's file is told by three names; a SHA-256 may be written in capitals."""
    announced = from_fields("dataset", {**DATASET, "sha256": SHA256.upper()})
    assert announced["sha256"] == SHA256
    file = complete(announced, size_bytes=5, sha256=SHA256)
    assert file == DatasetFile(**DATASET, size_bytes=5, sha256=SHA256)


def test_metadata_of_other_clients():
    """What clients add of themselves is passed over; `filename` stands for the path."""
    told = {
        "robot_id": "robot_A",
        "dataset": "ds",
        "filename": "meta/info.json",
        "filetype": "x",
        "name": "y",
    }
    announced = from_metadata(told)
    assert announced == {
        "kind": "dataset",
        "robot_id": "robot_A",
        "dataset": "ds",
        "path": "meta/info.json",
    }


def test_kind_of_metadata():
    """Without a kind, what names a session is video."""
    assert from_metadata(VIDEO)["kind"] == "video"
    assert from_metadata({**DATASET, "kind": "dataset"})["kind"] == "dataset"


@pytest.mark.parametrize("kind", ["video", "dataset"])
def test_missing_fields_are_named(kind):
    """The first name that is missing, or empty, is named."""
    whole = VIDEO if kind == "video" else DATASET
    for name in whole:
        for told in ({k: v for k, v in whole.items() if k != name}, {**whole, name: ""}):
            with pytest.raises(BadInput) as refused:
                from_fields(kind, told)
            assert refused.value.field == name


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("session", "three"),
        ("session", "-1"),
        ("camera_key", "fr\0nt"),
        ("chunk_index", "-1"),
        ("chunk_index", "one"),
        ("chunk_index", "9" * 30),
        ("start_timestamp", "2026-11-23T05:53:00"),
        ("start_timestamp", "yesterday"),
        ("start_timestamp", "NaN"),
        ("start_timestamp", "1e999"),
        ("start_timestamp", "9" * 12),
        ("end_timestamp", "1"),
        ("fps", "0"),
        ("fps", "nan"),
        ("height", "65536"),
        ("sha256", "ab"),
        ("frames", "{"),
        ("frames", "[" * 100_000),
        ("frames", '{"frame_index": [1], "captured_us": []}'),
        ("frames", '{"frame_index": [2, 1], "captured_us": [1, 2]}'),
        ("dropped", '{"first": 1}'),
    ],
)
def test_wrong_video_fields_are_named(field, text):
    """A text that says nothing sensible is refused under the name that the client gave it."""
    with pytest.raises(BadInput) as refused:
        from_fields("video", {**VIDEO, field: text})
    assert (refused.value.field or "").split(".")[0] == field


def test_unknown_kind():
    """Files are of two kinds."""
    with pytest.raises(BadInput) as refused:
        from_metadata({**DATASET, "kind": "archive"})
    assert refused.value.field == "kind"
